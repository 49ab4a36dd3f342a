"""The score of a run, and whether lower is better, for checkpoints, sweeps and comparisons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODES = ("max", "min")
LEGACY_TASK = "Classifier"  # the task of runs from before it was recorded
LEGACY_SCORE = {"score": "acc", "mode": "max"}  # of runs from before tasks named their score: all were classifiers
# the endings of metrics for which lower is better
MINIMISED = (
    *("loss", "loss_step", "error", "mse", "rmse", "mae", "mase", "perplexity"),
    *("seconds", "ms", "params", "macs", "mb"),
)


@dataclass(frozen=True)
class Score:
    """The metric that models are judged by.

    Args:
        name: such as `acc` for `val/acc`.
        mode: "max" or "min": whether a larger or a smaller value is better.
    """

    name: str
    mode: str

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Score":
        """Read the `score` and `mode` of `run.json` or of a model's configuration."""
        return cls(facts.get("score") or LEGACY_SCORE["score"], facts.get("mode") or LEGACY_SCORE["mode"])

    def is_minimised(self, metric: str) -> bool:
        """Return whether lower is better: for the score by its mode, for any other metric by its name."""
        name = metric.removesuffix("_best").rpartition("/")[2]
        if name == self.name:
            return self.mode == "min"
        return f"_{name}".endswith(tuple(f"_{ending}" for ending in MINIMISED))


def metrics_of(score: str) -> tuple[str, str, str]:
    """Return the names of the metrics that report a score, the most trustworthy first."""
    return f"test/{score}", f"val/{score}_best", f"val/{score}"
