"""Select parts of a net by name or pattern."""

import difflib
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from itertools import accumulate


def select(patterns: Iterable[str], names: Collection[str], key: str) -> list[str]:
    """Return the names that patterns match, in the order of `names`.

    Args:
        patterns: each is the name of a tensor or a module (`blocks.0`), or a glob, whose `*` also matches dots
            (`*.norm1`); a leading - removes its matches from those of the patterns before it.
        names: dotted names of tensors, as in a state dict.
        key: the configuration key of the patterns, for the message.

    Raises:
        ValueError: a pattern matches nothing.
    """
    selected: set[str] = set()
    for pattern in map(str, patterns):  # in YAML, 0 is a number
        wanted = pattern.removeprefix("-")
        matches = {name for name in names if fnmatchcase(name, wanted) or fnmatchcase(name, f"{wanted}.*")}
        if not matches:
            raise ValueError(f"{key}: nothing in the net is named {wanted}.{suggest(wanted, names)}")
        selected = selected - matches if pattern.startswith("-") else selected | matches
    return [name for name in names if name in selected]


def suggest(pattern: str, names: Iterable[str]) -> str:
    """Suggest the names of tensors and modules that are closest to a pattern, or list the outermost modules."""
    known = dict.fromkeys(part for name in names for part in accumulate(name.split("."), "{}.{}".format))
    close = difflib.get_close_matches(pattern, known, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {', '.join(close)}?"
    return f" The net has: {', '.join(name for name in known if '.' not in name)}."
