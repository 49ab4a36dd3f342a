"""Summarise Optuna studies: their trials, and how much each objective depends on each parameter."""

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from src.report.run_files import is_metric
from src.report.runs import Run
from src.sweeps.study import SQLITE, open_study
from src.system.json_files import part

if TYPE_CHECKING:
    import optuna

MAX_BYTES = 500_000_000  # maximum size of a storage
MIN_TRIALS = 8  # needed to compute importances at all
RELIABLE_TRIALS = 50  # PED-ANOVA uses the best tenth, and needs 5 trials there


@dataclass
class StudyReport:
    """The summary of a study for the page."""

    name: str
    problem: str | None = None  # why the study cannot be read
    objectives: list[str] = field(default_factory=list)
    minimised: list[bool] = field(default_factory=list)  # by objective
    trials: list[tuple[int, list[float], bool]] = field(default_factory=list)  # number, values, whether it was pruned
    importances: list[dict[str, float] | str] = field(default_factory=list)  # by objective, or why there are none
    unrated: list[str] = field(default_factory=list)  # parameters that not all trials have
    completed: int = 0  # number of trials from which the importances are computed

    @property
    def is_rough(self) -> bool:
        """Return whether there are too few trials for the importances to be reliable."""
        return self.completed < RELIABLE_TRIALS and any(isinstance(shares, dict) for shares in self.importances)


def study_reports(runs: Sequence[Run]) -> list[StudyReport]:
    """Report on each study that has trials among the runs."""
    trials: dict[tuple[str, str], Run] = {}  # one trial of each study
    for run in runs:
        study = part(run.job, "study")
        if {"storage", "name"} <= study.keys():
            trials.setdefault((str(study["storage"]), str(study["name"])), run)
    return [report_study(storage, name, run) for (storage, name), run in trials.items()]


def report_study(storage: str, name: str, run: Run) -> StudyReport:
    """Report on a study; `run` is one of its trials, in the folder of its sweep."""
    sweep = run.folder.resolve().parent
    title = f"{sweep.name} ({name})"
    objectives = run.job["study"].get("objectives")
    try:
        with temporary_copy(locate_storage(storage, sweep)) as copy:
            study = open_study(copy, name, bounded=copy.startswith(SQLITE))
            return describe_study(study, title, list(map(str, objectives)) if isinstance(objectives, list) else [])
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return StudyReport(title, problem=str(error))
    except Exception as error:  # Optuna does not validate the trials in its storage
        return StudyReport(title, problem=f"The study is damaged: {type(error).__name__}: {error}")


@contextmanager
def temporary_copy(storage: str) -> Iterator[str]:
    """Copy a storage within the context, because opening may write to it, and a run can name any file.

    Raises:
        ValueError: it is too large to be a study.
    """
    path = Path(storage.removeprefix(SQLITE))
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"The study cannot be opened: {path} is larger than {MAX_BYTES:,} bytes.")
    with tempfile.TemporaryDirectory(prefix="study_") as folder:
        copy = shutil.copy(path, Path(folder) / "study")
        yield f"{SQLITE}{copy}" if storage.startswith(SQLITE) else str(copy)


def locate_storage(storage: str, sweep: Path) -> str:
    """Return the location of a study's storage: as recorded, or in the folder of a sweep that was moved.

    Raises:
        FileNotFoundError: the file does not exist; opening it would create an empty one.
        ValueError: it is not a file.
    """
    path = Path(storage.removeprefix(SQLITE))
    if "://" in str(path):  # a folder from elsewhere must not make this machine connect to a server
        raise ValueError(f"The study is kept in {storage}, which this page does not open.")
    if path.is_file():
        return storage
    moved = sweep / path.name
    if not moved.is_file():
        raise FileNotFoundError(f"The study cannot be opened: there is neither {path} nor {moved}.")
    return storage.removesuffix(str(path)) + str(moved)


def describe_study(study: "optuna.Study", title: str, objectives: list[str]) -> StudyReport:
    """Report the trials and importances of an open study.

    Raises:
        ValueError: a trial has values that cannot be drawn.
    """
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    shown: list[tuple[int, list[float], bool]] = []
    for trial in trials:
        pruned = trial.state.name == "PRUNED" and bool(trial.intermediate_values)
        if not pruned and trial.state.name != "COMPLETE":
            continue
        values = [trial.intermediate_values[max(trial.intermediate_values)]] if pruned else trial.values or []
        if all(map(math.isfinite, values)):
            if not all(map(is_metric, values)):  # too large to be drawn, or not numbers
                raise ValueError(f"{title}: the study is damaged: trial {trial.number} has the values {values}.")
            shown.append((trial.number, list(values), pruned))
    shared = set.intersection(*(set(trial.params) for trial in complete)) if complete else set()
    count = len(study.directions)
    return StudyReport(
        title,
        objectives=objectives if len(objectives) == count else [f"objective {index + 1}" for index in range(count)],
        minimised=[direction.name == "MINIMIZE" for direction in study.directions],
        trials=shown,
        importances=[importances(study, index, shared, len(complete)) for index in range(count)],
        unrated=sorted({name for trial in trials for name in trial.params} - shared),
        completed=len(complete),
    )


def importances(study: "optuna.Study", objective: int, names: set[str], completed: int) -> dict[str, float] | str:
    """Return the importance of each named parameter for an objective, as shares, or why it is unknown.

    Source: Watanabe et al. 2023, PED-ANOVA, arXiv 2304.10255.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if completed < MIN_TRIALS:
        return f"Not enough data: {completed} trials have completed, and {MIN_TRIALS} are needed."
    sign = -1 if study.directions[objective].name == "MAXIMIZE" else 1  # with a target, lower is better

    def target(trial: "optuna.trial.FrozenTrial") -> float:
        return sign * float(trial.values[objective])

    try:
        shares = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), target=target if len(study.directions) > 1 else None
        )
        return {name: share for name, share in shares.items() if name in names}
    except (ValueError, RuntimeError) as error:  # all trials have the same value, for example
        return f"It cannot be computed: {error}"
