"""Which classes a configuration that came with a checkpoint may name: reading a file must not run what it likes."""

import pydoc
import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

ALLOWED = (
    "src.callbacks.",
    "src.data.",
    "src.models.",
    "torch.nn.",
    "torch.optim.",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "lightning.pytorch.trainer.",
)
RESOLVERS = ("hydra", "now", "project_root", "torchrun", "oc.env", "count_classes")  # none of them can make an object


def check_targets(cfg: DictConfig, allowed: Sequence[str] = ()) -> None:
    """Check everything that a configuration would instantiate.

    The object is looked up, which imports a module of an allowed package, and must be defined in one itself: a name
    such as `src.data.mnist.os.system` leads out of them.

    Args:
        cfg: as read from a run directory or a checkpoint.
        allowed: further packages or modules.

    Raises:
        ValueError: names the first target that is not allowed, or a resolver that could make one.
    """
    plain = OmegaConf.to_container(cfg)
    for resolver in re.findall(r"\$\{\s*([\w.]+)\s*:", repr(plain)):
        if resolver not in RESOLVERS:
            raise ValueError(f"${{{resolver}:…}} is refused: a run that is read from a file may not compute values.")
    prefixes = (*ALLOWED, *(f"{name.rstrip('.')}." for name in allowed))
    for key, target in targets(plain):
        module = ""
        if isinstance(target, str) and f"{target}.".startswith((*prefixes, "lightning.pytorch.Trainer.")):
            found = pydoc.locate(target)
            module = f"{getattr(found, '__module__', None)}." if callable(found) else ""
        if not module.startswith(prefixes):
            packages = ", ".join(prefix.rstrip(".") for prefix in prefixes)
            raise ValueError(
                f"{key}._target_={target} is refused: a run that is read from a file may only build classes of "
                f"{packages}. For code that you trust: allowed_targets=[package]"
            )


def targets(node: Any, key: str = "config") -> Iterator[tuple[str, Any]]:
    """Every `_target_` within a configuration, with the dotted key of its block."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node["_target_"]
        for name, value in node.items():
            yield from targets(value, name if key == "config" else f"{key}.{name}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from targets(value, f"{key}.{number}")
