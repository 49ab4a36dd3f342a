"""The objectives of a sweep, their directions, and the ranking of its jobs."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.run.scores import Score
from src.run.status import FINISHED
from src.sweeps.jobs import Job


@dataclass(frozen=True)
class Objective:
    """A metric that a sweep optimises.

    Args:
        metric: its name, such as `val/acc_best`.
        minimised: whether lower is better.
    """

    metric: str
    minimised: bool

    @property
    def direction(self) -> str:
        """Return the direction in Optuna's terms."""
        return "minimize" if self.minimised else "maximize"


def objectives_of(names: Sequence[str], score: Score) -> list[Objective]:
    """Return objectives with their directions: the score's from its mode, any other metric's from its name."""
    return [Objective(name, score.is_minimised(name)) for name in names]


def objective_values(value: Any) -> list[float]:
    """Return the value of each objective, from the `value` of a job's status; empty if there is none."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int | float)]


def ranked(jobs: Sequence[Job], objectives: Sequence[Objective]) -> list[Job]:
    """Sort jobs by a single objective, the best first and those without a value last."""
    return sorted(jobs, key=lambda job: sort_key(result_of(job), objectives))


def best_job(jobs: Sequence[Job], objectives: Sequence[Objective]) -> Job | None:
    """Return the best job by a single objective; None if there are several objectives, or no job has a value."""
    first = ranked(jobs, objectives)[0]
    return first if len(objectives) == 1 and result_of(first) else None


def result_of(job: Job) -> list[float]:
    """Return the value of each objective of a finished job."""
    return objective_values(job.facts.get("value")) if job.status == FINISHED else []


def sort_key(values: Sequence[float], objectives: Sequence[Objective]) -> tuple[bool, float]:
    """Sort key of a job's values, the best first; without a single objective all are equal."""
    if len(objectives) != 1 or not values:
        return len(objectives) == 1, 0.0
    return False, values[0] if objectives[0].minimised else -values[0]


def rerun_command(folder: Path) -> str:
    """Return the command that reproduces the run of a job and tests it."""
    return shlex.join(["python", "src/train.py", f"reproduce={folder}", "test=true"])
