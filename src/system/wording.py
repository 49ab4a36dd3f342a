"""Parts of messages: suggestions for a misspelt name, counts of things, and first lines of errors."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

# names in other projects
SYNONYMS = {"learning_rate": "lr", "epochs": "max_epochs", "datamodule": "data", "dataset": "data", "network": "model"}


def suggest(name: str, options: Sequence[str]) -> str:
    """Suggest the options closest to a name, or list all of them if none is close."""
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if not near and not options:
        return ""
    return f" Did you mean {', '.join(near)}?" if near else f" Available: {', '.join(options)}."


def suggest_key(key: str, keys: Sequence[str]) -> str:
    """Suggest the dotted keys closest to one that does not exist, by its last part: `trainer.lr` is model.optimizer.lr.

    Keys with the same last part come first, then siblings, then any others.
    """
    parent, _, name = key.rpartition(".")
    name = SYNONYMS.get(name, name)
    siblings = [one for one in keys if one.rpartition(".")[0] == parent]

    def near(options: Sequence[str], cutoff: float) -> list[str]:
        names = dict.fromkeys(map(last, options))
        return [
            one
            for match in difflib.get_close_matches(name, names, n=3, cutoff=cutoff)
            for one in options
            if last(one) == match
        ]

    same = [one for one in keys if last(one) == name]
    exact = [one for one in same if one.endswith(f".{key}")]
    matches = exact or same or near(siblings, 0.5 if parent else 0.7) or near(keys, 0.7) or near(siblings, 0.5)
    if matches:
        return f" Did you mean {', '.join(matches[:3])}?"
    if parent and parent not in keys:
        return suggest_key(parent, keys)
    return f" Available: {', '.join(siblings)}." if siblings else ""


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Format a count with its noun: 1 image, 2 images."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip()


def last(key: str) -> str:
    """Return the last part of a dotted key."""
    return key.rpartition(".")[2]


def dotted(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of nested dicts, including those of the dicts themselves."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from dotted(value, f"{prefix}{name}.")
