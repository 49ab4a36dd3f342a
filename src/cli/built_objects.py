"""What is said where Hydra cannot build what a configuration names: a class that there is not, an argument too many."""

import importlib
import inspect
import pkgutil
import re
from types import ModuleType

from src.system.wording import suggest


def describe_target(target: str) -> str:
    """Say that a `_target_` names nothing, how far the name leads, and what there is instead."""
    module, rest = importable(target)
    sentence = f"_target_={target} names nothing"
    if module is None:
        return f"{sentence}: there is no package {rest} here, or it is not installed."
    name = rest.partition(".")[0]
    found = {key for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    below = {one.name for one in pkgutil.iter_modules(module.__path__)} if hasattr(module, "__path__") else set()
    own = {key for key in found if getattr(vars(module)[key], "__module__", "").startswith(module.__name__)}
    return f"{sentence}: {module.__name__} has no {name}.{suggest(name, sorted(own | below))}"


def importable(target: str) -> tuple[ModuleType | None, str]:
    """The innermost module that a dotted name leads through, and what remains of the name."""
    parts = target.split(".")
    module = None
    for place, part in enumerate(parts):
        name = ".".join(parts[: place + 1])
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            return module, ".".join(parts[place:]) if module else part
    return module, parts[-1]


def describe_argument(target: str, key: str, sentence: str) -> str | None:
    """Say which argument a class does not take, and which are near; None where the error is another one.

    Args:
        target: the dotted name of the class.
        key: where the block stands, such as model.net.
        sentence: of the TypeError.
    """
    match = re.search(r"got an unexpected keyword argument '(\w+)'", sentence)
    module, name = importable(target) if match else (None, "")
    called = getattr(module, name, None)
    if match is None or called is None:
        return None
    taken = [one.name for one in inspect.signature(called).parameters.values() if one.kind != one.VAR_KEYWORD]
    if match[1] in taken:  # another class, within it, does not take it
        return None
    return f"{key}.{match[1]}: {name} takes no such argument.{suggest(match[1], taken)}"
