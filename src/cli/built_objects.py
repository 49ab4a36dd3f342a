"""Describe why Hydra cannot build an object: an unknown class, or an unexpected argument."""

import importlib
import inspect
import pkgutil
import re
from types import ModuleType

from src.system.wording import suggest

EXTRAS = ("timm", "schedulefree")  # packages named in configurations; the extra of the same name installs each


def describe_target(target: str) -> str:
    """Report that a `_target_` does not exist, with similar names in its innermost existing module."""
    module, rest = import_longest(target)
    sentence = f"_target_={target} does not exist"
    if module is None or module.__spec__ is None:
        if rest in EXTRAS:
            return f"{sentence}: {rest} is not installed: pip install -e '.[{rest}]'"
        return f"{sentence}: there is no package {rest}, or it is not installed."
    name = rest.partition(".")[0]
    submodules = {info.name for info in pkgutil.iter_modules(module.__spec__.submodule_search_locations or [])}
    members = {key for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    defined = {key for key in members if getattr(vars(module)[key], "__module__", "").startswith(module.__name__)}
    return f"{sentence}: {module.__name__} has no {name}.{suggest(name, sorted(defined | submodules))}"


def import_longest(target: str) -> tuple[ModuleType | None, str]:
    """Import the longest prefix of a dotted name that is a module; return it and the rest of the name."""
    parts = target.split(".")
    module = None
    for index, part in enumerate(parts):
        try:
            module = importlib.import_module(".".join(parts[: index + 1]))
        except ModuleNotFoundError:
            return module, ".".join(parts[index:]) if module else part
    return module, parts[-1]


def describe_argument(target: str, key: str, message: str) -> str | None:
    """Report an unknown argument of a class, with similar ones; None if a TypeError has another cause.

    Args:
        target: dotted name of the class.
        key: key of its block in the configuration, such as model.net.
        message: the message of the TypeError.
    """
    match = re.search(r"got an unexpected keyword argument '(\w+)'", message)
    module, name = import_longest(target) if match else (None, "")
    called = getattr(module, name, None)
    if match is None or called is None:
        return None
    accepted = [one.name for one in inspect.signature(called).parameters.values() if one.kind != one.VAR_KEYWORD]
    if match[1] in accepted:  # the error comes from another class that it instantiates
        return None
    return f"{key}.{match[1]}: {name} takes no such argument.{suggest(match[1], accepted)}"
