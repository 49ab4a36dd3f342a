"""What a sentence is made of: what may have been meant by a word that names nothing, and numbers of things."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

# what other projects call the same
SYNONYMS = {"learning_rate": "lr", "epochs": "max_epochs", "datamodule": "data", "dataset": "data", "network": "model"}


def suggest(name: str, options: Sequence[str]) -> str:
    """Name the options nearest to what was written, or all of them where none is near."""
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if not near and not options:
        return ""
    return f" Did you mean {', '.join(near)}?" if near else f" There is: {', '.join(options)}."


def suggest_key(key: str, keys: Sequence[str]) -> str:
    """Name the dotted keys nearest to one that does not exist, by its last part: `trainer.lr` is model.optimizer.lr.

    Keys of the same last part come first, then those beside the one that was written, then any.
    """
    parent, _, name = key.rpartition(".")
    name = SYNONYMS.get(name, name)
    beside = [one for one in keys if one.rpartition(".")[0] == parent]

    def near(options: Sequence[str], cutoff: float) -> list[str]:
        names = dict.fromkeys(map(last, options))
        return [
            one
            for found in difflib.get_close_matches(name, names, n=3, cutoff=cutoff)
            for one in options
            if last(one) == found
        ]

    same = [one for one in keys if last(one) == name]
    exact = [one for one in same if one.endswith(f".{key}")]
    meant = exact or same or near(beside, 0.5 if parent else 0.7) or near(keys, 0.7) or near(beside, 0.5)
    if meant:
        return f" Did you mean {', '.join(meant[:3])}?"
    if parent and parent not in keys:
        return suggest_key(parent, keys)
    return f" There is: {', '.join(beside)}." if beside else ""


def counted(number: int, thing: str, things: str | None = None) -> str:
    """A number of things in words: 1 image, 2 images."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def last(key: str) -> str:
    """The last part of a dotted key."""
    return key.rpartition(".")[2]


def dotted(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of nested dicts, those of the dicts themselves included."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from dotted(value, f"{prefix}{name}.")
