"""The objectives of a sweep, in every notation."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from src.config.objectives import objectives, optimized

METRICS = {"val/acc": 0.5, "latency_ms": 2.0}


@pytest.mark.parametrize(
    ("given", "names", "values"),
    [
        (None, [], None),
        ("", [], None),
        ("val/acc", ["val/acc"], 0.5),
        (["val/acc"], ["val/acc"], [0.5]),
        (["latency_ms", "val/acc"], ["latency_ms", "val/acc"], [2.0, 0.5]),
    ],
)
def test_none_one_or_several_metrics_are_optimised(given: Any, names: list[str], values: Any) -> None:
    cfg = OmegaConf.create({"optimized_metric": given})
    assert (objectives(cfg), optimized(cfg, METRICS)) == (names, values)


def test_a_metric_that_the_run_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optimized_metric=x is not a metric of this run; it has latency_ms, val/acc"):
        optimized(OmegaConf.create({"optimized_metric": ["val/acc", "x"]}), METRICS)
