"""Check the values of a configuration against the type annotations of what is built from them.

Libraries take a value of the wrong type far from where it is given, and then say something else.
"""

import inspect
import pydoc
import types
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

SEQUENCES = {list, tuple, Sequence, Collection, Iterable}
LIST, WHOLE, NUMBER = "a list, such as [{value}]", "a whole number", "a number"


def check_arguments(node: Any) -> None:
    """Check every block of a configuration that has a `_target_`, down to the innermost.

    Only what is certain is refused: a fraction for a whole number, a word for a number, a single value for a list.

    Raises:
        ValueError: names the key, the value, and what is wanted.
    """
    if isinstance(node, ListConfig):
        for child in node:
            check_arguments(child)
    if not isinstance(node, DictConfig) or node._is_none():
        return
    given = {str(name): node[name] for name in node if not OmegaConf.is_missing(node, name)}
    hints = annotations(given.get("_target_"))
    for name, value in given.items():
        check_arguments(value)
        wanted = mistaken(hints[name], value) if name in hints else None
        if wanted is not None:
            raise ValueError(f"{node._get_full_key(name)}={value} must be {wanted.format(value=value)}.")


def annotations(target: Any) -> dict[str, Any]:
    """The types that a class or a function states for its arguments; none where there is no telling."""
    try:
        found = pydoc.locate(target) if isinstance(target, str) else None
        calls: list[Any] = [found]
        if inspect.isclass(found):
            calls = [vars(one)["__init__"] for one in inspect.getmro(found) if "__init__" in vars(one)]
        hints: dict[str, Any] = {}
        for call in calls:
            hints = {**get_type_hints(call), **hints}
            if not any(one.kind is one.VAR_KEYWORD for one in inspect.signature(call).parameters.values()):
                break  # the others are the parent's, which it hands them to
    except Exception:  # a module that can't be imported is told of when it is built, and some types are never defined
        return {}
    return hints


def mistaken(annotation: Any, value: Any) -> str | None:
    """What an argument must be that a value certainly is not; None where the value may do."""
    kinds = alternatives(annotation)
    if kinds is None or isinstance(value, bool | DictConfig | ListConfig) or value is None:
        return None
    if isinstance(value, str):
        if kinds <= {int, float, type(None)}:
            return NUMBER if float in kinds else WHOLE
    elif isinstance(value, float) and int in kinds and not kinds & {float, complex}:
        return WHOLE
    return LIST if kinds <= {list, type(None)} else None


def alternatives(annotation: Any) -> set[type] | None:
    """The kinds of plain values that an annotation admits, every sequence being a list; None for any value."""
    if annotation is None:
        return {type(None)}
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        members = [alternatives(member) for member in get_args(annotation)]
        return None if None in members else set().union(*(member for member in members if member is not None))
    if origin is Literal:
        return {type(member) for member in get_args(annotation)}
    kind = origin or annotation
    if not isinstance(kind, type) or kind is object:
        return None
    return {list} if kind in SEQUENCES else {kind}
