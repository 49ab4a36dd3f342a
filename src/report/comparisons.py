"""Which runs are ranked together: those of one task on the same data, by a metric that most of them have."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.report.runs import Run
from src.report.statistics import Configuration, configurations
from src.run.scores import MODES, Score, metrics_of
from src.run.status import FINISHED
from src.system.json_files import part

# settings that make another task of the same data, where a command line tells them
TASK = ("data.num_classes", "data.coarse", "data.channels", "data.image_size")
UNKNOWN = "unknown data"


@dataclass(frozen=True)
class Comparison:
    """Configurations of one task that were tried on the same data, the best first.

    Args:
        data: its name, and what tells it from other data of that name and from other tasks on it.
        score: what says how good a model is.
        metric: what they are ranked by.
        minimised: whether less of it is better.
        note: why it is this metric, where that needs a word.
        configurations: those with the metric first.
        alone: there is no other comparison, so that a label says enough.
    """

    data: str
    score: Score
    metric: str
    minimised: bool
    note: str | None
    configurations: list[Configuration]
    alone: bool = True

    def data_label(self, one: Configuration) -> str:
        """The label of a configuration, with its data where there are other comparisons."""
        return one.label if self.alone else f"{self.data}: {one.label}"

    @property
    def runs(self) -> list[Run]:
        """The runs of all configurations."""
        return [run for one in self.configurations for run in one.runs]

    @property
    def best_run(self) -> Run | None:
        """The best run of the best configuration; None where none has the metric."""
        rated = self.configurations[0].rated(self.metric)
        choose = min if self.minimised else max
        return choose(rated, key=lambda run: run.figures[self.metric]) if rated else None


def compare_by_data(
    runs: Sequence[Run],
    metric: str | None = None,
    mode: str | None = None,
    measured: Mapping[tuple[str, float], Mapping[str, float]] | None = None,
) -> list[Comparison]:
    """Rank runs of one task on the same data together; that with the most runs comes first.

    Args:
        metric: what they are compared by; None: what most of those that are ranked together have.
        mode: min or max; None: that of the score or, for other metrics, what the name says.
        measured: what `src/benchmark.py` has measured of nets, as `benchmark_metrics` reads it.

    Raises:
        ValueError: no run has the metric that is wanted, or the mode is none.
    """
    if mode not in (None, *MODES):
        raise ValueError(f"mode={mode} must be one of min, max, null.")
    known = sorted({name for run in runs for name in run.figures})
    if metric is not None and metric not in known:
        raise ValueError(f"metric={metric} is not a figure of these runs; they are {', '.join(known) or 'none'}.")
    found, groups = [], by_task(runs)
    names = Counter(data for data, _ in groups)
    for (data, score), members in groups.items():
        title = f"{data} by {score.name}" if names[data] > 1 else data
        chosen, note = (metric, None) if metric is not None else choose_metric(members, score)
        minimised = mode == "min" if mode else score.is_minimised(chosen)
        ranked = configurations(members, chosen, minimised, measured)
        found.append(Comparison(title, score, chosen, minimised, note, ranked, alone=len(groups) == 1))
    return sorted(found, key=lambda one: -len(one.runs))


def by_task(runs: Sequence[Run]) -> dict[tuple[str, Score], list[Run]]:
    """The runs on each data, and of each score: of the same name, shape and, where it is known, checksum of the images
    of the test."""
    told = [(task_of(run), run.score if run.facts else None) for run in runs]
    beside: dict[Path, set[tuple[str, Score]]] = {}
    checksums: dict[str, set[str]] = {}
    for run, (name, score) in zip(runs, told, strict=True):
        if name is not None:
            checksums.setdefault(name, set()).update(checksum_of(run))
            if score is not None:
                beside.setdefault(run.folder.parent, set()).add((name, score))
    found: dict[tuple[str, Score], list[Run]] = {}
    for run, (name, score) in zip(runs, told, strict=True):
        if name is None or score is None:  # a job that has not begun: what all others of its sweep are trained on
            others = {
                one for one in beside.get(run.folder.parent, ()) if name in (None, one[0]) and score in (None, one[1])
            }
            name, score = next(iter(others)) if len(others) == 1 else (name or UNKNOWN, run.score)
        several = len(checksums.get(name, ())) > 1
        title = " ".join([name, *(f"({one})" for one in checksum_of(run) if several)])
        found.setdefault((title, score), []).append(run)
    return found


def task_of(run: Run) -> str | None:
    """The name of a run's data, and what makes another task of it; None where the run has not told."""
    if "data" not in run.settings:
        return None
    own = [f"{key.partition('.')[2]}={run.settings[key]}" for key in TASK if key in run.settings]
    return " ".join([run.settings["data"], *own])


def checksum_of(run: Run) -> list[str]:
    """The checksum of the images of a run's test, short; nothing where it has not told."""
    checksum = part(run.facts, "data").get("test")
    return [checksum[:9]] if isinstance(checksum, str) else []


def choose_metric(runs: Sequence[Run], score: Score) -> tuple[str, str | None]:
    """The metric that most finished runs have, of the score and what else checkpoints are chosen by.

    Returns:
        Its name, and a sentence where it is not the first that one would look at.
    """
    finished = [run for run in runs if run.status == FINISHED]
    counts = Counter(name for run in finished for name in run.figures)
    chosen_by = {name.removesuffix("_best").partition("/")[2] for name in counts if name.endswith("_best")}
    candidates = map(metrics_of, [score.name, *sorted(chosen_by - {score.name})])
    names = max(candidates, key=lambda names: max(counts[name] for name in names))  # the first of equals
    chosen = max(names, key=lambda name: counts[name])
    if chosen == names[0]:
        return chosen, None
    return chosen, (
        f"Ranked by {chosen}, which {counts[chosen]} of {len(finished)} finished runs have; "
        f"{counts[names[0]]} have {names[0]}."
    )
