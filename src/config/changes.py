"""Turn changes to a composed configuration into overrides, so that a run can be reproduced from the command line."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.paths import CONFIGS
from src.config.quoting import literal


def overrides_of(cfg: Any, compose: Callable[..., DictConfig]) -> list[str]:
    """Return the overrides that compose a configuration, including later changes to its values.

    Args:
        cfg: a composed configuration, with its overrides under `hydra.overrides.task`.
        compose: composes a configuration from overrides.

    Raises:
        ValueError: the configuration does not record its overrides, or a group was replaced.
    """
    recorded = OmegaConf.select(cfg, "hydra.overrides.task") if OmegaConf.is_config(cfg) else None
    if recorded is None:
        raise ValueError(
            "This configuration does not record its overrides: compose it with compose(…) from src.api, or pass the "
            'overrides themselves: train("model=mnist_cnn_68k", …).'
        )
    words = list(recorded)
    before, after = (plain(one) for one in (compose(*words), cfg))
    return [*words, *changes(before, after)]


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration without Hydra's node as plain values, with its interpolations."""
    content: Any = OmegaConf.to_container(cfg)
    return {key: value for key, value in content.items() if key != "hydra"}


def changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the overrides that turn one configuration into another."""
    for key in [*before, *(key for key in after if key not in before)]:
        name = f"{prefix}{key}"
        if key not in after:
            yield f"~{name}"
        elif key not in before:
            yield f"+{name}={written(after[key])}"
        elif isinstance(before[key], Mapping) and isinstance(after[key], Mapping):
            yield from changes(before[key], after[key], f"{name}.")
        elif written(before[key]) != written(after[key]):  # 1.0 equals 1, but means all batches
            if (CONFIGS / name.replace(".", "/")).is_dir() and after[key] is not None:
                raise ValueError(f'{name} is a group, whose files are chosen by compose("{name.replace(".", "/")}=…").')
            yield f"{name}={written(after[key])}"


def written(value: Any) -> str:
    """Write a value in Hydra's grammar; interpolations are kept."""
    return f'"{value}"' if isinstance(value, str) and "${" in value else literal(value)
