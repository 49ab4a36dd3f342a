"""The classes that a configuration read from a file may instantiate: an explicit registry by role.

A file must not run arbitrary code: its targets are looked up in the registry, never imported, and arguments are plain
values.
"""

import importlib
import inspect
import logging
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from src.config.paths import CONFIGS

log = logging.getLogger(__name__)

TASK, NET, OPTIMIZER, SCHEDULER, CRITERION = "task", "net", "optimizer", "scheduler", "criterion"
MIXING, PARAMETER_GROUPS = "mixing", "parameter groups"
DATA, AUGMENTATION = "data", "augmentation"
ROLES = {
    "model": TASK,
    "model.optimizer": OPTIMIZER,
    "model.scheduler": SCHEDULER,
    "model.criterion": CRITERION,
    "model.mixing": MIXING,
    "model.parameter_groups": PARAMETER_GROUPS,
    "data": DATA,
    "data.augmentation": AUGMENTATION,
}
# configurations of this project whose targets are registered for a role; functions are registered only this way
NAMED_IN = {
    NET: "model/**/*.yaml",
    OPTIMIZER: "model/optimizer/*.yaml",
    SCHEDULER: "model/scheduler/*.yaml",
    CRITERION: "model/criterion/*.yaml",
    MIXING: "model/mixing/*.yaml",
    PARAMETER_GROUPS: "model/parameter_groups/*.yaml",
    AUGMENTATION: "data/**/*.yaml",  # as an option, or in the configuration of a dataset
}
FORMER_AUGMENTATION = "src.data.image_folder.random_view"  # used by runs of former versions
ALLOWED_KEYS = ("_target_", "_partial_")  # of Hydra's special keys


def check_targets(config: Mapping[str, Any], allowed: Sequence[str] = ()) -> None:
    """Check everything that a configuration would instantiate.

    Args:
        config: plain values without interpolations, such as `{"model": …, "data": …}`, as read from a file.
        allowed: further packages or modules that the command line trusts.

    Raises:
        ValueError: a target is not allowed, or a key makes Hydra do more than instantiate it.
    """
    for key, node in blocks(config):
        refused = [str(name) for name in node if str(name).startswith("_") and name not in ALLOWED_KEYS]
        if refused or node.get("_partial_", False) not in (True, False):
            name = (refused or ["_partial_"])[0]
            raise ValueError(f"{key}.{name} is refused: a run read from a file may only name classes and plain values.")
        if "_target_" in node:
            check_target(key, node["_target_"], allowed)


def check_target(key: str, target: Any, allowed: Sequence[str] = ()) -> None:
    """Check the target of a block, such as `model.net`.

    Raises:
        ValueError: it is neither registered for the role of the block nor in an allowed package.
    """
    if isinstance(target, str) and any(f"{target}.".startswith(f"{name.rstrip('.')}.") for name in allowed):
        return
    role = role_of(key)
    if role is None or not isinstance(target, str) or target not in registry()[role]:
        reason = f"it is not registered as {role}" if role else "a run may not set it"
        raise ValueError(
            f"{key}._target_={str(target)[:200]} is refused: {reason}, and a run read from a file may instantiate "
            "nothing else. For code that you trust: allowed_targets=[package]"
        )


def role_of(key: str) -> str | None:
    """Return the role of the block at a key; None if no file may set it."""
    return ROLES.get(key, NET if key.startswith("model.") else None)


def blocks(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every mapping of a configuration with its dotted key."""
    if isinstance(node, Mapping):
        if key:
            yield key, node
        for name, value in node.items():
            yield from blocks(value, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from blocks(value, f"{key}.{index}")


@cache
def registry() -> dict[str, frozenset[str]]:
    """Return the allowed targets by role: classes defined in `src`, and targets named in its configurations."""
    from lightning.pytorch import LightningDataModule, LightningModule
    from torch import nn, optim

    losses = {f"torch.nn.{name}" for name, _ in inspect.getmembers(nn, inspect.isclass) if name.endswith("Loss")}
    optimizers = {
        f"torch.optim.{name}"
        for name, optimizer in inspect.getmembers(optim, inspect.isclass)
        if issubclass(optimizer, optim.Optimizer) and optimizer is not optim.Optimizer
    }
    named = {role: named_in(pattern) for role, pattern in NAMED_IN.items()}
    nets = {name for name in named[NET] if name.startswith("src.models.components.")}
    data = defined_in("src.data", LightningDataModule)
    targets = {
        TASK: defined_in("src.models", LightningModule),
        NET: defined_in("src.models.components", nn.Module) | nets,
        OPTIMIZER: optimizers | named[OPTIMIZER],
        SCHEDULER: named[SCHEDULER],
        CRITERION: losses | named[CRITERION],
        MIXING: named[MIXING],
        PARAMETER_GROUPS: named[PARAMETER_GROUPS],
        DATA: data,
        AUGMENTATION: (named[AUGMENTATION] - data) | {FORMER_AUGMENTATION},
    }
    return {role: frozenset(names) for role, names in targets.items()}


def defined_in(package: str, base: type) -> set[str]:
    """Return the names of the subclasses of a class that are defined in the modules of a package."""
    names = set()
    for info in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        try:
            module = importlib.import_module(info.name)
        except Exception as error:  # a user's file; runs that do not need it still work
            log.warning("%s cannot be imported: %s: %s", info.name, type(error).__name__, error)
            continue
        classes = inspect.getmembers(module, inspect.isclass)
        names |= {
            f"{info.name}.{name}"
            for name, member in classes
            if issubclass(member, base) and member.__module__ == info.name
        }
    return names


def named_in(pattern: str) -> set[str]:
    """Return the targets named in configuration files of this project."""
    texts = [path.read_text(encoding="utf-8") for path in CONFIGS.glob(pattern)]
    return {name for text in texts for name in re.findall(r"^\s*_target_:\s*([\w.]+)", text, re.MULTILINE)}
