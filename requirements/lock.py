"""Write run.txt and dev.txt, which `make setup LOCKED=1` installs: `make lock`.

Every version is fixed, with the checksums of its files, for Python 3.10 and later on Linux, macOS and Windows.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# which build of torch is right depends on the machine, and each index has its own; what it asks for is left out as well
LEFT_OUT = re.compile(r"torch|torchvision|triton|cuda-.*|nvidia-.*")
HEADER = """\
# Written by `make lock`: the releases that `make setup LOCKED=1` installs, with their checksums.
# Not in here: torch, torchvision, and the CUDA libraries and Triton that they ask for. CPU and CUDA builds have other
# checksums, and one machine needs these, another those: they are installed by the ranges of pyproject.toml, from
# TORCH_INDEX where that is set.
"""


def resolve(extra: str, *options: str) -> dict[str, str]:
    """The lines that uv writes for each package of this project with an extra, by the package's name."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", extra, *options]
    command += [
        "--universal",
        "--python-version",
        "3.10",
        "--generate-hashes",
        "--no-annotate",
        "--no-header",
        "--quiet",
    ]
    written = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", written.strip()):
        name = block.partition("==")[0]
        if not LEFT_OUT.fullmatch(name):
            found[name] = found.get(name, "") + block + "\n"  # a release for each version of Python that needs its own
    return found


def main() -> None:
    """Resolve what work on the code needs, and within it what a run needs: both files name the same releases."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        development = resolve("dev")
        file.write("".join(development.values()))
        file.flush()
        run = resolve("demo", "--constraint", file.name)
    rest = {name: block for name, block in development.items() if run.get(name) != block}
    for name, blocks in {"run": run, "dev": rest}.items():
        (HERE / f"{name}.txt").write_text(HEADER + "".join(blocks.values()))


if __name__ == "__main__":
    main()
