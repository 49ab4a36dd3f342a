"""Check the values of a configuration against the type annotations of the classes they are passed to.

Otherwise libraries fail on a value of the wrong type much later, with a misleading message.
"""

import inspect
import pydoc
import types
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

SEQUENCES = {list, tuple, Sequence, Collection, Iterable}
LIST, INTEGER, NUMBER = "a list, such as [{value}]", "an integer", "a number"


def check_arguments(node: Any) -> None:
    """Check every nested block of a configuration that has a `_target_`.

    Only clear errors are rejected: a fraction for an integer, a string for a number, a single value for a list.

    Raises:
        ValueError: a value has the wrong type.
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
        expected = expected_type(hints[name], value) if name in hints else None
        if expected is not None:
            raise ValueError(f"{node._get_full_key(name)}={value} must be {expected.format(value=value)}.")


def annotations(target: Any) -> dict[str, Any]:
    """Return the annotated argument types of a class or a function; empty if they cannot be determined."""
    try:
        located = pydoc.locate(target) if isinstance(target, str) else None
        calls: list[Any] = [located]
        if inspect.isclass(located):
            calls = [vars(one)["__init__"] for one in inspect.getmro(located) if "__init__" in vars(one)]
        hints: dict[str, Any] = {}
        for call in calls:
            hints = {**get_type_hints(call), **hints}
            if not any(one.kind is one.VAR_KEYWORD for one in inspect.signature(call).parameters.values()):
                break  # otherwise the remaining arguments are passed to the parent
    except Exception:  # modules that can't be imported are reported on instantiation; some types are undefined
        return {}
    return hints


def expected_type(annotation: Any, value: Any) -> str | None:
    """Describe the annotated type if a value is certainly not of that type; None otherwise."""
    accepted = accepted_types(annotation)
    if accepted is None or isinstance(value, bool | DictConfig | ListConfig) or value is None:
        return None
    if isinstance(value, str):
        if accepted <= {int, float, type(None)}:
            return NUMBER if float in accepted else INTEGER
    elif isinstance(value, float) and int in accepted and not accepted & {float, complex}:
        return INTEGER
    return LIST if accepted <= {list, type(None)} else None


def accepted_types(annotation: Any) -> set[type] | None:
    """Return the plain types that an annotation accepts, with list for every sequence; None if it accepts any."""
    if annotation is None:
        return {type(None)}
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        members = [accepted_types(member) for member in get_args(annotation)]
        return None if None in members else set().union(*(member for member in members if member is not None))
    if origin is Literal:
        return {type(member) for member in get_args(annotation)}
    cls = origin or annotation
    if not isinstance(cls, type) or cls is object:
        return None
    return {list} if cls in SEQUENCES else {cls}
