"""What a sweep optimises, in which direction, and which job is best."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from src.config.objectives import objectives
from src.run.scores import Score
from src.run.status import update_status
from src.sweeps.jobs import Sweep
from src.sweeps.objectives import best_job, objectives_of


@pytest.mark.parametrize(
    ("optimized_metric", "score", "directions"),
    [
        (None, Score("acc", "max"), []),
        ("val/acc", Score("acc", "max"), ["maximize"]),
        ("val/mse_best", Score("mse", "min"), ["minimize"]),
        ("val/loss", Score("acc", "max"), ["minimize"]),
        (["val/acc_best", "latency_ms"], Score("acc", "max"), ["maximize", "minimize"]),
        (["test/mse", "val/psnr"], Score("mse", "min"), ["minimize", "maximize"]),
    ],
)
def test_the_direction_of_each_objective(optimized_metric: Any, score: Score, directions: list[str]) -> None:
    names = objectives(OmegaConf.create({"optimized_metric": optimized_metric}))
    assert [one.direction for one in objectives_of(names, score)] == directions


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.3, 0.1, 0.2], 1), ([None, None, 0.2], 2), ([None, None, None], None), ([[0.3], [0.1], [0.2]], 1)],
)
def test_the_best_job_has_finished_with_a_value(values: list[Any], best: int | None, tmp_path: Path) -> None:
    jobs = Sweep(tmp_path, "train", ["seed"]).jobs_for([f"seed={seed}"] for seed in range(4))
    for job, value in zip(jobs, [*values, 0.0], strict=True):
        update_status(job.folder, status="finished" if job.number < 3 else "pruned", value=value)
    found = best_job(jobs, objectives_of(["val/mse"], Score("mse", "min")))
    assert (found.number if found else None) == best
    assert best_job(jobs, objectives_of(["val/mse", "params"], Score("mse", "min"))) is None
