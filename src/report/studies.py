"""What a study tells: its trials, and which parameters its objectives depend on."""

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.report.run_files import is_metric
from src.report.runs import Run
from src.sweeps.study import SQLITE, open_study
from src.system.json_files import part

if TYPE_CHECKING:
    import optuna

MOST_BYTES = 500_000_000  # of a storage
LEAST_TRIALS = 8  # for an importance to mean something
SURE_TRIALS = 50  # PED-ANOVA looks at the best tenth, and wants 5 trials there


@dataclass
class StudyReport:
    """What a page says of a study.

    Args:
        name: of the study.
        problem: why there is nothing more to say.
        objectives: a name for each.
        minimised: whether less of each is better.
        trials: (number, values, whether it was pruned) of those that have values.
        importances: for each objective the share of each parameter, or why there is none.
        unrated: parameters that not all trials have, and that are not rated.
        completed: how many trials the importances are drawn from.
    """

    name: str
    problem: str | None = None
    objectives: list[str] = field(default_factory=list)
    minimised: list[bool] = field(default_factory=list)
    trials: list[tuple[int, list[float], bool]] = field(default_factory=list)
    importances: list[dict[str, float] | str] = field(default_factory=list)
    unrated: list[str] = field(default_factory=list)
    completed: int = 0

    @property
    def rough(self) -> bool:
        """Whether there are too few trials for the importances to be more than a hint."""
        return self.completed < SURE_TRIALS and any(isinstance(found, dict) for found in self.importances)


def study_reports(runs: Sequence[Run]) -> list[StudyReport]:
    """A report of each study that runs are trials of."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        study = part(run.job, "study")
        if {"storage", "name"} <= study.keys():
            found.setdefault((str(study["storage"]), str(study["name"])), []).append(run)
    return [report_of(storage, name, members[0]) for (storage, name), members in found.items()]


def report_of(storage: str, name: str, run: Run) -> StudyReport:
    """What a storage knows of a study; `run` is one of its trials, which tells where its sweep lies."""
    title = f"{run.folder.resolve().parent.name} ({name})"
    objectives = run.job["study"].get("objectives")
    try:
        with copied(found_storage(storage, run.folder.resolve().parent)) as copy:
            study = open_study(copy, name, bounded=copy.startswith(SQLITE))
            return describe_study(study, title, list(map(str, objectives)) if isinstance(objectives, list) else [])
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return StudyReport(title, problem=str(error))
    except Exception as error:  # of whatever kind, for Optuna does not check what its storage says of trials
        return StudyReport(title, problem=f"The study is damaged: {type(error).__name__}: {error}")


@contextmanager
def copied(storage: str) -> Iterator[str]:
    """A copy of a storage, for as long as the context lasts: to open one may write to it, and a run says which.

    Raises:
        ValueError: it is too large for that of a study.
    """
    path = Path(storage.removeprefix(SQLITE))
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"The study cannot be opened: {path} is larger than {MOST_BYTES:,} bytes.")
    with tempfile.TemporaryDirectory(prefix="study_") as folder:
        copy = shutil.copy(path, Path(folder) / "study")
        yield f"{SQLITE}{copy}" if storage.startswith(SQLITE) else str(copy)


def found_storage(storage: str, sweep: Path) -> str:
    """Where the storage of a study is now: where it was, or in the folder of a sweep that has been moved.

    Raises:
        FileNotFoundError: its file is in neither place. Opening it would make an empty one.
    """
    path = Path(storage.removeprefix(SQLITE))
    if "://" in str(path):  # a folder that came from elsewhere has no say in what is connected to
        raise ValueError(f"The study is kept in {storage}, which this page does not open.")
    if path.is_file():
        return storage
    beside = sweep / path.name
    if not beside.is_file():
        raise FileNotFoundError(f"The study cannot be opened: there is neither {path} nor {beside}.")
    return storage.removesuffix(str(path)) + str(beside)


def describe_study(study: "optuna.Study", title: str, objectives: list[str]) -> StudyReport:
    """The trials and importances of a study, whose objectives have these names."""
    trials = study.get_trials(deepcopy=False)
    shown: list[tuple[int, list[float], bool]] = []
    for trial in trials:
        pruned = trial.state.name == "PRUNED" and trial.intermediate_values
        values = [trial.intermediate_values[max(trial.intermediate_values)]] if pruned else trial.values or []
        if (pruned or trial.state.name == "COMPLETE") and all(map(math.isfinite, values)):
            if not all(map(is_metric, values)):  # too large to be drawn, or no numbers
                raise ValueError(f"{title}: the study is damaged: trial {trial.number} has the values {values}.")
            shown.append((trial.number, list(values), bool(pruned)))
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    everywhere = set.intersection(*(set(trial.params) for trial in complete)) if complete else set()
    count = len(study.directions)
    return StudyReport(
        title,
        objectives=objectives if len(objectives) == count else [f"objective {place + 1}" for place in range(count)],
        minimised=[direction.name == "MINIMIZE" for direction in study.directions],
        trials=shown,
        importances=[importance(study, place, everywhere) for place in range(count)],
        unrated=sorted({name for trial in trials for name in trial.params} - everywhere),
        completed=len(complete),
    )


def importance(study: "optuna.Study", place: int, rated: set[str]) -> dict[str, float] | str:
    """How much an objective depends on each parameter that is rated, as shares; or why that can't be told.

    Source: Watanabe et al. 2023, PED-ANOVA, arXiv 2304.10255.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    sign = -1 if study.directions[place].name == "MAXIMIZE" else 1

    def target(trial: Any) -> float:
        return sign * float(trial.values[place])  # less of a target is taken to be better

    complete = sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))
    if complete < LEAST_TRIALS:
        return f"Too little is known for it: {complete} trials have been completed."
    chosen: Any = target if len(study.directions) > 1 else None
    try:
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=chosen)
        return {name: share for name, share in shares.items() if name in rated}
    except (ValueError, RuntimeError) as error:  # of trials that are all equal, say
        return f"It can't be told: {error}"
