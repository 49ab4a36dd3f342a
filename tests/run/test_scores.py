"""The score of a run, and whether lower is better for it and for other metrics."""

from typing import Any

import pytest

from src.run.scores import Score, metrics_of


@pytest.mark.parametrize(
    ("facts", "score"),
    [
        ({"score": "mse", "mode": "min"}, Score("mse", "min")),
        ({"score": "acc", "mode": "max", "seed": 1}, Score("acc", "max")),
        ({"seed": 1}, Score("acc", "max")),  # from before tasks named their score
        ({"score": None, "mode": None}, Score("acc", "max")),
    ],
)
def test_runs_of_before_tasks_named_their_score_classified(facts: dict[str, Any], score: Score) -> None:
    assert Score.of(facts) == score


@pytest.mark.parametrize(
    ("name", "score", "less"),
    [
        ("test/acc", Score("acc", "max"), False),
        ("images_per_second", Score("acc", "max"), False),
        ("val/loss_best", Score("acc", "max"), True),
        ("val/loss", Score("acc", "max"), True),
        ("latency_ms", Score("mse", "min"), True),
        ("params", Score("acc", "max"), True),
        ("macs", Score("acc", "max"), True),
        ("int8/size_mb", Score("acc", "max"), True),
        ("train/loss_step", Score("acc", "max"), True),
        ("val/left/loss", Score("acc", "max"), True),
        ("val/mae", Score("acc", "max"), True),
        ("val/mae_best", Score("mse", "min"), True),
        ("val/naive_mase", Score("acc", "max"), True),
        ("val/mse", Score("acc", "max"), True),
        ("test/rmse", Score("acc", "max"), True),
        ("val/top_5_error", Score("acc", "max"), True),
        ("val/perplexity_best", Score("acc", "max"), True),
        ("epoch_seconds", Score("acc", "max"), True),
        # classes whose names end like a metric
        ("test/iou/arms", Score("miou", "max"), False),
        ("test/dice/lamb", Score("miou", "max"), False),
        ("test/iou/gloss", Score("miou", "max"), False),
        ("val/mse_best", Score("mse", "min"), True),
        ("test/mse", Score("mse", "min"), True),
        ("mse", Score("mse", "min"), True),
        ("val/left/mse_best", Score("mse", "min"), True),
        ("val/psnr", Score("mse", "min"), False),
        ("val/acc", Score("mse", "min"), False),
        ("val/loss", Score("loss", "max"), False),  # for a score the mode decides, not the name
    ],
)
def test_the_mode_tells_of_the_score_and_the_name_of_others(name: str, score: Score, less: bool) -> None:
    assert score.is_minimised(name) == less


def test_runs_are_compared_by_their_test_before_their_validation() -> None:
    assert metrics_of("mse") == ("test/mse", "val/mse_best", "val/mse")
