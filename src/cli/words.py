"""Check a command line for words without a key, which Hydra ignores or reports unclearly."""

from collections.abc import Sequence
from pathlib import Path

from src.config.quoting import PATHS

OPTIONS_WITH_VALUE = (  # Hydra's
    *("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd", "--package", "-p", "--cfg", "-c"),
    *("--info", "-i", "--experimental-rerun"),
)
# the most likely key of a path, by program
DEFAULT_KEYS = {"train": "resume", "eval": "run_dir", "export": "run_dir", "predict": "input", "compare": "runs"}
DEFAULT_KEYS |= {"explain": "run_dir"}


def check_words(program: str, arguments: Sequence[str], configs: Path) -> None:
    """Check that each word of a command line is an option or an override.

    Args:
        program: name of the program: train, eval, …
        arguments: words of its command line.
        configs: folder of the configuration groups.

    Raises:
        ValueError: a word is neither; the message suggests the probable key.
    """
    for before, word in zip(["", *arguments], arguments, strict=False):
        if not word or word[0] in "-~" or "=" in word or before in OPTIONS_WITH_VALUE or before.startswith("--"):
            continue
        suggestion = probable_override(program, word, configs)
        quoted = 'key=value, with quotes around a value with spaces: "key=[a, b]"'
        raise ValueError(f"{word} has no key: write {suggestion or quoted}.")


def probable_override(program: str, word: str, configs: Path) -> str | None:
    """Return the key=value that a word may stand for: an option of a group, or a path."""
    choices = [] if "/" in word else options_named(word, configs)
    if choices:
        return " or ".join(choices)
    key = (
        "ckpt_path" if word.endswith(".ckpt") and program not in ("compare", "benchmark") else DEFAULT_KEYS.get(program)
    )
    is_path = Path(word).exists() or "/" in word or key in ("input", "ckpt_path")
    return f"{key}={word}" if key in PATHS and is_path else None


def options_named(name: str, configs: Path, near: str = "") -> list[str]:
    """Return the options with a name, such as data=mnist, preferably in the group `near`; none if there are many."""
    groups = [path.parent.relative_to(configs) for path in configs.rglob("*.yaml") if path.stem == name]
    groups = [group for group in groups if group.parts and group.name != "base"]  # parts of other files
    groups = [group for group in groups if group.name == near] or groups
    return [f"{group.as_posix()}={name}" for group in sorted(groups)] if len(groups) < 3 else []
