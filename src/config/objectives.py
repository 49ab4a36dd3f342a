"""The objectives of a sweep: `optimized_metric` is null, the name of a metric, or a list of names."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf


def objectives(cfg: Any) -> list[str]:
    """Return the names of the optimised metrics."""
    names = OmegaConf.select(cfg, "optimized_metric")
    return [names] if names and isinstance(names, str) else list(names or [])


def optimized(cfg: Any, metrics: Mapping[str, Any]) -> float | list[float] | None:
    """Return the values of the optimised metrics; a list if `optimized_metric` is a list.

    Raises:
        ValueError: the run has no such metric.
    """
    names = objectives(cfg)
    for name in names:
        if name not in metrics:
            raise ValueError(
                f"optimized_metric={name} is not a metric of this run; it has {', '.join(sorted(metrics))}."
            )
    values = [float(metrics[name]) for name in names]
    return values[0] if values and isinstance(cfg.optimized_metric, str) else values or None


def check_objectives(cfg: Any) -> None:
    """Check that no test metric is optimised when the test is skipped.

    Raises:
        ValueError: a test metric is optimised, but test=false.
    """
    for name in objectives(cfg):
        if name.startswith("test/") and OmegaConf.select(cfg, "test") is False:
            raise ValueError(
                f"optimized_metric={name} needs the test, which test=false skips; optimise a validation metric, "
                f"such as val/{OmegaConf.select(cfg, 'model.score', default='acc')}_best."
            )
