"""Run the notebooks and write what they show to docs/notebooks/, to be read without running: `make notebooks`.

    python notebooks/render.py                 # all of them
    python notebooks/render.py 1_first_steps   # one

They run in a copy of the code, so that their runs are not among yours.
"""

import os
import re
import shutil
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "notebooks"
TIMEOUT = 600  # seconds for a cell
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours of a terminal


def main() -> None:
    """Render the notebooks that are named on the command line, or all."""
    PAGES.mkdir(exist_ok=True)
    for path in [ROOT / "notebooks" / f"{name}.ipynb" for name in sys.argv[1:]] or notebooks():
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
            for stale in PAGES.glob(f"{path.stem}*"):
                stale.unlink()
            write_page(notebook, path, Path(folder))


def notebooks() -> list[Path]:
    """Return the notebooks."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def execute(path: Path, checkout: Path) -> Any:
    """Run a notebook in a copy of the code, and return it with its outputs.

    Args:
        path: of the notebook.
        checkout: an empty folder for the copy, which its runs go to as well.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    for name in ("src", "configs", "hydra_plugins"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / ".project-root").touch()
    (checkout / "notebooks").mkdir()
    notebook = nbformat.read(path, as_version=4)
    with patch.dict(os.environ, {"PYTHONPATH": str(checkout), "PYTHONWARNINGS": "ignore"}):
        client = NotebookClient(
            notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(checkout / "notebooks")}}
        )
        client.execute()
    return notebook


def write_page(notebook: Any, path: Path, checkout: Path) -> None:
    """Write a notebook with its outputs as Markdown, and its figures as PNG files beside it."""
    parts = [f"<!-- written by `make notebooks` from notebooks/{path.name}; change that instead -->"]
    figures = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for text, png in shown(cell.outputs):
            if png is not None:
                figures += 1
                name = f"{path.stem}_{figures}.png"
                (PAGES / name).write_bytes(b64decode(png))
                parts.append(f"![figure {figures}]({name})")
            elif text.strip():
                plain = CONTROL.sub("", text).replace(str(checkout), "…")
                lines = "\n".join(line.rstrip() for line in plain.strip("\n").splitlines())
                parts.append(f"```text\n{lines}\n```")
    (PAGES / f"{path.stem}.md").write_text("\n\n".join(parts) + "\n")


def shown(outputs: list[Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the text and the picture of each output of a cell; texts that follow one another are one."""
    text = ""
    for output in outputs:
        data = {"text/plain": output["text"]} if output.output_type == "stream" else output.get("data", {})
        if "image/png" in data:
            yield text, None
            text = ""
            yield "", data["image/png"]
        else:
            text += data.get("text/plain", "").rstrip("\n") + "\n"
    yield text, None


def code_of(page: str) -> list[str]:
    """Return the code cells of a page."""
    return re.findall(r"^```python\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)


if __name__ == "__main__":
    main()
