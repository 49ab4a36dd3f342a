"""What `optimized_metric` names: none, one, or several of the figures of a run."""

from typing import Any

from omegaconf import DictConfig, OmegaConf


def names_of(optimized_metric: Any) -> list[str]:
    """The figures that are optimised: none, one, or several."""
    return [optimized_metric] if isinstance(optimized_metric, str) else list(optimized_metric or [])


def check_optimized(cfg: DictConfig) -> None:
    """Refuse to optimise a figure of a test that is left out.

    Raises:
        ValueError: names it.
    """
    for name in names_of(OmegaConf.select(cfg, "optimized_metric")):
        if name.startswith("test/") and OmegaConf.select(cfg, "test") is False:
            raise ValueError(
                f"optimized_metric={name}: test=false leaves the test set alone; optimise a figure of the validation, "
                "such as val/acc_best."
            )
