"""Group runs of the same task on the same data, and rank each group by a metric."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from src.report.runs import Benchmarks, Run
from src.report.statistics import Configuration, group_runs
from src.run.scores import MODES, Score, metrics_of
from src.run.status import FINISHED
from src.system.json_files import part

TASK_SETTINGS = (
    "data.num_classes",
    "data.coarse",
    "data.channels",
    "data.image_size",
)  # settings that turn the same data into another task
UNKNOWN = "unknown data"


class TaskKey(NamedTuple):
    """The properties that runs must share to be ranked together."""

    data: str
    score: Score
    task: str


@dataclass(frozen=True)
class Comparison:
    """The configurations of one task on the same data, ranked by a metric."""

    data: str  # unique among all comparisons
    score: Score
    metric: str
    minimised: bool  # whether a lower metric is better
    note: str | None  # why they are ranked by this metric, unless it is the default
    configurations: list[Configuration]  # the best first, those without the metric last
    is_only: bool = True  # whether this is the only comparison

    def data_label(self, configuration: Configuration) -> str:
        """Label a configuration so that it is unique among all comparisons."""
        return configuration.label if self.is_only else f"{self.data}: {configuration.label}"

    @property
    def runs(self) -> list[Run]:
        """Return the runs of all configurations."""
        return [run for configuration in self.configurations for run in configuration.runs]

    @property
    def best_run(self) -> Run | None:
        """Return the best run of the best configuration; None if it has no metric."""
        choose = min if self.minimised else max
        runs = self.configurations[0].finished_runs(self.metric)
        return choose(runs, key=lambda run: run.metrics[self.metric], default=None)


def compare_by_data(
    runs: Sequence[Run], metric: str | None = None, mode: str | None = None, benchmarks: Benchmarks | None = None
) -> list[Comparison]:
    """Rank the runs of each task and data; the comparison with the most runs comes first.

    Args:
        runs: at least one.
        metric: metric to rank by; None: the metric that most runs of a comparison have.
        mode: min or max; None: the mode of the score or, for other metrics, inferred from the name.
        benchmarks: measurements of `src/benchmark.py`.

    Raises:
        ValueError: no run has the metric, or the mode is invalid.
    """
    if mode not in (None, *MODES):
        raise ValueError(f"mode={mode} must be one of min, max, null.")
    metrics = sorted({name for run in runs for name in run.metrics})
    if metric is not None and metric not in metrics:
        raise ValueError(f"metric={metric} is not a metric of these runs; they have {', '.join(metrics) or 'none'}.")
    comparisons, groups = [], group_by_task(runs)
    names = Counter(key.data for key in groups)
    scores = Counter((key.data, key.score) for key in groups)
    for key, members in groups.items():
        title = key.data
        if scores[key.data, key.score] > 1:
            title = f"{key.data} for {key.task}"
        elif names[key.data] > 1:
            title = f"{key.data} by {key.score.name}"
        rank_by, note = (metric, None) if metric is not None else choose_metric(members, key.score)
        minimised = mode == "min" if mode else key.score.is_minimised(rank_by)
        ranked = group_runs(members, rank_by, minimised, benchmarks)
        comparisons.append(Comparison(title, key.score, rank_by, minimised, note, ranked, is_only=len(groups) == 1))
    return sorted(comparisons, key=lambda comparison: -len(comparison.runs))


def group_by_task(runs: Sequence[Run]) -> dict[TaskKey, list[Run]]:
    """Group runs by data, score and task, and by the checksum of the test images if the same name has several."""
    sweeps: dict[Path, set[TaskKey]] = {}  # the tasks of the runs in a folder
    checksums: dict[str, set[str]] = {}
    for run in runs:
        if (name := data_name(run)) is not None:
            checksums.setdefault(name, set()).update(filter(None, [images_checksum(run)]))
            if run.record:
                sweeps.setdefault(run.folder.parent, set()).add(TaskKey(name, run.score, run.task))
    groups: dict[TaskKey, list[Run]] = {}
    for run in runs:
        name, key = data_name(run), TaskKey(data_name(run) or UNKNOWN, run.score, run.task)
        if (
            name is None or not run.record
        ):  # a job that has not started: use the task of its sweep, if there is only one
            tasks = {
                task
                for task in sweeps.get(run.folder.parent, set())
                if name in (None, task.data) and (not run.record or (task.score, task.task) == (run.score, run.task))
            }
            key = tasks.pop() if len(tasks) == 1 else key
        checksum = images_checksum(run) if len(checksums.get(key.data, ())) > 1 else ""
        key = key._replace(data=f"{key.data} ({checksum})") if checksum else key
        groups.setdefault(key, []).append(run)
    return groups


def data_name(run: Run) -> str | None:
    """Return the name of a run's data, with the settings that change the task; None if it is not recorded."""
    if "data" not in run.settings:
        return None
    settings = [f"{key.partition('.')[2]}={run.settings[key]}" for key in TASK_SETTINGS if key in run.settings]
    return " ".join([run.settings["data"], *settings])


def images_checksum(run: Run) -> str:
    """Return the start of the checksum of a run's test images; empty if it is not recorded."""
    checksum = part(run.record, "data").get("test")
    return checksum[:9] if isinstance(checksum, str) else ""


def choose_metric(runs: Sequence[Run], score: Score) -> tuple[str, str | None]:
    """Choose the metric that most finished runs have, among the score and other metrics that select checkpoints.

    Returns:
        The metric, and a sentence that explains the choice unless it is the first candidate.
    """
    finished = [run for run in runs if run.status == FINISHED]
    counts = Counter(name for run in finished for name in run.metrics)
    selecting = {name.removesuffix("_best").partition("/")[2] for name in counts if name.endswith("_best")}
    candidates = map(metrics_of, [score.name, *sorted(selecting - {score.name})])
    names = max(candidates, key=lambda names: max(counts[name] for name in names))  # the first of ties
    metric = max(names, key=lambda name: counts[name])
    if metric == names[0]:
        return metric, None
    return metric, (
        f"Ranked by {metric}, which {counts[metric]} of {len(finished)} finished runs have; "
        f"{counts[names[0]]} have {names[0]}."
    )
