"""What a sweep optimises: `optimized_metric`, null, the name of a figure or a list of several."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf


def objectives(cfg: Any) -> list[str]:
    """The figures that are optimised: none, one, or several."""
    named = OmegaConf.select(cfg, "optimized_metric")
    return [named] if named and isinstance(named, str) else list(named or [])


def optimized(cfg: Any, figures: Mapping[str, Any]) -> float | list[float] | None:
    """The values of these figures, as a list where `optimized_metric` is one.

    Raises:
        ValueError: the run has no such figure.
    """
    names = objectives(cfg)
    for name in names:
        if name not in figures:
            raise ValueError(
                f"optimized_metric={name} is not a figure of this run; they are {', '.join(sorted(figures))}."
            )
    values = [float(figures[name]) for name in names]
    if not values:
        return None
    return values[0] if isinstance(cfg.optimized_metric, str) else values


def check_objectives(cfg: Any) -> None:
    """Refuse to optimise a metric of a test that is left out.

    Raises:
        ValueError: names it.
    """
    for name in objectives(cfg):
        if name.startswith("test/") and OmegaConf.select(cfg, "test") is False:
            raise ValueError(
                f"optimized_metric={name}: test=false leaves the test set alone; optimise a metric of the validation, "
                f"such as val/{OmegaConf.select(cfg, 'model.score', default='acc')}_best."
            )
