"""Which classes a configuration that was read from a file may name: an explicit registry, with a role for each.

Reading a file must not run what it likes. A name from a file is compared with the names of the registry and never
looked up itself; what it is called with are plain values.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from src.config.paths import CONFIGS

TASK, NET, OPTIMIZER, SCHEDULER, CRITERION = "task", "net", "optimizer", "scheduler", "criterion"
DATA, AUGMENTATION = "data", "augmentation"
ROLES = {
    "model": TASK,
    "model.optimizer": OPTIMIZER,
    "model.scheduler": SCHEDULER,
    "model.criterion": CRITERION,
    "data": DATA,
    "data.augmentation": AUGMENTATION,
}
# where this project's own configurations name what there is for a role; of these, functions are known by name alone
NAMED_IN = {
    NET: "model/**/*.yaml",
    OPTIMIZER: "model/optimizer/*.yaml",
    SCHEDULER: "model/scheduler/*.yaml",
    CRITERION: "model/criterion/*.yaml",
    AUGMENTATION: "data/augmentation/*.yaml",
}
FORMER_AUGMENTATION = "src.data.image_folder.random_view"  # of runs of former versions
HYDRAS_OWN = ("_target_", "_partial_")  # of its keys those that say no more than what is built


def check_targets(config: Mapping[str, Any], allowed: Sequence[str] = ()) -> None:
    """Check everything that a configuration would instantiate.

    Args:
        config: plain values without interpolations, such as `{"model": …, "data": …}`, as read from a file.
        allowed: further packages or modules, which the command line trusts.

    Raises:
        ValueError: names the first target that has no place there, or a key by which Hydra would do more.
    """
    for key, node in blocks(config):
        strange = [str(name) for name in node if str(name).startswith("_") and name not in HYDRAS_OWN]
        if strange or node.get("_partial_", False) not in (True, False):
            name = (strange or ["_partial_"])[0]
            raise ValueError(f"{key}.{name} is refused: a run that is read from a file gives classes and plain values.")
        if "_target_" in node:
            check_target(key, node["_target_"], allowed)


def check_target(key: str, target: Any, allowed: Sequence[str] = ()) -> None:
    """Check that a block of a configuration may be built from a class.

    Args:
        key: of the block, such as `model.net`.
        target: the name that stands there.
        allowed: further packages or modules, which the command line trusts.

    Raises:
        ValueError: it is neither of the registry, in the role that the block has, nor of an allowed package.
    """
    if isinstance(target, str) and any(f"{target}.".startswith(f"{name.rstrip('.')}.") for name in allowed):
        return
    role = role_of(key)
    if role is None or not isinstance(target, str) or target not in registry()[role]:
        kind = f"no {role} of this project" if role else "not what a run may bring along"
        raise ValueError(
            f"{key}._target_={str(target)[:200]} is refused: it is {kind}, and a run that is read from a file may "
            "build nothing else. For code that you trust: allowed_targets=[package]"
        )


def role_of(key: str) -> str | None:
    """What the block of a key is there for; None for one that is not read from files."""
    return ROLES.get(key, NET if key.startswith("model.") else None)


def blocks(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping within a configuration, with its dotted key."""
    if isinstance(node, Mapping):
        if key:
            yield key, node
        for name, value in node.items():
            yield from blocks(value, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from blocks(value, f"{key}.{place}")


@cache
def registry() -> dict[str, frozenset[str]]:
    """The names of all that may be built, by role: classes that `src` defines, and what its configurations name."""
    from lightning.pytorch import LightningDataModule, LightningModule
    from torch import nn, optim

    tasks = defined_in("src.models", LightningModule)
    losses = {f"torch.nn.{name}" for name, _ in inspect.getmembers(nn, inspect.isclass) if name.endswith("Loss")}
    optimizers = {
        f"torch.optim.{name}"
        for name, found in inspect.getmembers(optim, inspect.isclass)
        if issubclass(found, optim.Optimizer) and found is not optim.Optimizer
    }
    named = {role: named_in(pattern) for role, pattern in NAMED_IN.items()}
    nets = {name for name in named[NET] if name.startswith("src.models.components.")}
    found = {
        TASK: tasks,
        NET: defined_in("src.models.components", nn.Module) | nets,
        OPTIMIZER: optimizers | named[OPTIMIZER],
        SCHEDULER: named[SCHEDULER],
        CRITERION: losses | named[CRITERION],
        DATA: defined_in("src.data", LightningDataModule),
        AUGMENTATION: named[AUGMENTATION] | {FORMER_AUGMENTATION},
    }
    return {role: frozenset(names) for role, names in found.items()}


def defined_in(package: str, base: type) -> set[str]:
    """The names of all classes of a kind that the modules of a package define."""
    names = set()
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        found = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        names |= {f"{module.name}.{name}" for name, kind in found if issubclass(kind, base)}
    return {name for name in names if is_defined_there(name)}


def is_defined_there(name: str) -> bool:
    """Whether a class is defined in the module that its name says, and not imported into it."""
    module, _, attribute = name.rpartition(".")
    return bool(getattr(importlib.import_module(module), attribute).__module__ == module)


def named_in(pattern: str) -> set[str]:
    """The targets that this project's own configuration files name."""
    texts = [path.read_text(encoding="utf-8") for path in CONFIGS.glob(pattern)]
    return {name for text in texts for name in re.findall(r"^\s*_target_:\s*([\w.]+)", text, re.MULTILINE)}
