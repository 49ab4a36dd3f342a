"""What a sweep optimises, whether less of it is better, and which of its jobs are best."""

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
        minimised: whether less of it is better.
    """

    metric: str
    minimised: bool

    @property
    def direction(self) -> str:
        """Optuna's word for it."""
        return "minimize" if self.minimised else "maximize"


def objectives_of(names: Sequence[str], score: Score) -> list[Objective]:
    """The metrics that are optimised, and their directions: of the score by its mode, of any other by its name."""
    return [Objective(name, score.is_minimised(name)) for name in names]


def numbers(value: Any) -> list[float]:
    """What a job found of each objective, from the `value` of its status; nothing where it found none."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int | float)]


def ranked(jobs: Sequence[Job], objectives: Sequence[Objective]) -> list[Job]:
    """Sort jobs by a single objective, the best first, those that have not finished with it last."""
    return sorted(jobs, key=lambda job: place(result_of(job), objectives))


def best_job(jobs: Sequence[Job], objectives: Sequence[Objective]) -> Job | None:
    """The best job by a single objective; None where there are several, or no job has finished with it."""
    first = ranked(jobs, objectives)[0]
    return first if len(objectives) == 1 and result_of(first) else None


def result_of(job: Job) -> list[float]:
    """What a job that has finished found of each objective."""
    return numbers(job.facts.get("value")) if job.status == FINISHED else []


def place(found: Sequence[float], objectives: Sequence[Objective]) -> tuple[bool, float]:
    """Where what was found stands in a list with the best first; all are equal where there is not one objective."""
    if len(objectives) != 1 or not found:
        return len(objectives) == 1, 0.0
    return False, found[0] if objectives[0].minimised else -found[0]


def again(folder: Path) -> str:
    """The command that makes the run of a job once more, and tests it."""
    return shlex.join(["python", "src/train.py", f"reproduce={folder}", "test=true"])
