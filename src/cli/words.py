"""Words of a command line that are no key=value, which Hydra passes over or answers with a riddle."""

from collections.abc import Sequence
from pathlib import Path

from src.config.quoting import PATHS

VALUED = (  # Hydra's own options that take the word after them
    *("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd", "--package", "-p", "--cfg", "-c"),
    *("--info", "-i", "--experimental-rerun"),
)
# what a word without a key is most likely given for
MEANT = {"train": "resume", "eval": "run_dir", "export": "run_dir", "predict": "input", "compare": "runs"}


def check_words(program: str, arguments: Sequence[str], configs: Path) -> None:
    """Check that each word of a command line is an option or gives a key its value.

    Args:
        program: train, eval …
        arguments: of its command line.
        configs: the folder of the configuration groups.

    Raises:
        ValueError: names the first that does neither, and what it was probably meant for.
    """
    for before, word in zip(["", *arguments], arguments, strict=False):
        if not word or word[0] in "-~" or "=" in word or before in VALUED or before.startswith("--"):
            continue
        meant = meant_by(program, word, configs)
        quoted = 'key=value, with quotes around a value that holds spaces: "key=[a, b]"'
        raise ValueError(f"{word} has no key: write {meant or quoted}.")


def meant_by(program: str, word: str, configs: Path) -> str | None:
    """The key=value that a word may stand for: a file of a group that the name leads to, or a path."""
    choices = [] if "/" in word else named(word, configs)
    if choices:
        return " or ".join(choices)
    key = "ckpt_path" if word.endswith(".ckpt") and program not in ("compare", "benchmark") else MEANT.get(program)
    is_path = Path(word).exists() or "/" in word or key in ("input", "ckpt_path")
    return f"{key}={word}" if key in PATHS and is_path else None


def named(name: str, configs: Path, near: str = "") -> list[str]:
    """The choices of a group that have a name, such as data=mnist; few, or those of one group where `near` names it."""
    groups = [path.parent.relative_to(configs) for path in configs.rglob("*.yaml") if path.stem == name]
    groups = [group for group in groups if group.parts and group.name != "base"]  # what others are made of
    groups = [group for group in groups if group.name == near] or groups
    return [f"{group.as_posix()}={name}" for group in sorted(groups)] if len(groups) < 3 else []
