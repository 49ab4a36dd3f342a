"""From runs to configurations: what differs but for the seed, means and spreads, and what nothing else beats."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from src.report.runs import MEASURED, Run
from src.run.status import FINISHED


@dataclass(frozen=True)
class Configuration:
    """Runs that differ by nothing but their seeds.

    Args:
        label: what distinguishes it from the others.
        runs: all of them, finished or not.
        measured: figures that `src/benchmark.py` has measured, by the name of the model and its parameters.
    """

    label: str
    runs: tuple[Run, ...]
    measured: Mapping[tuple[str, float], Mapping[str, float]] = field(default_factory=dict)

    def rated(self, name: str) -> list[Run]:
        """The run of each seed that has finished with a figure.

        Of several runs with one seed the latest counts: they are no independent samples.
        """
        found: dict[int | str, Run] = {}
        for run in sorted(self.runs, key=lambda run: run.started):
            if name in run.figures and run.status == FINISHED:
                found[str(run.folder) if run.seed is None else run.seed] = run
        return list(found.values())

    def values(self, name: str) -> list[float]:
        """A figure of each seed that has it; of a net that no run has measured, what a benchmark has."""
        found = [run.figures[name] for run in self.rated(name)]
        if not found and name in MEASURED:
            known = self.measured.get((self.runs[0].settings.get("model", ""), next(iter(self.values("params")), -1)))
            return [known[name]] if known is not None else []
        return found

    def mean(self, name: str) -> float | None:
        """The mean over the seeds; None where no run has the figure."""
        values = self.values(name)
        return statistics.fmean(values) if values else None

    def std(self, name: str) -> float | None:
        """The sample standard deviation over the seeds; None for fewer than two."""
        values = self.values(name)
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def statuses(self) -> Counter[str]:
        """How its runs stand."""
        return Counter(run.status for run in self.runs)


def configurations(
    runs: Iterable[Run],
    metric: str,
    minimised: bool = False,
    measured: Mapping[tuple[str, float], Mapping[str, float]] | None = None,
) -> list[Configuration]:
    """Put runs of the same settings together, the best by a metric first, those without it last."""
    groups: dict[frozenset[tuple[str, str]], list[Run]] = {}
    for run in runs:
        groups.setdefault(frozenset(run.settings.items()), []).append(run)
    labels = label(groups)
    found = [Configuration(labels[key], tuple(members), measured or {}) for key, members in groups.items()]
    sign = 1 if minimised else -1

    def rank(one: Configuration) -> tuple[bool, float]:
        mean = one.mean(metric)
        return mean is None, sign * mean if mean is not None else 0.0

    return sorted(found, key=rank)


def label(groups: Iterable[frozenset[tuple[str, str]]]) -> dict[frozenset[tuple[str, str]], str]:
    """Name each group of settings by those that not all have."""
    groups = list(groups)
    shared = frozenset.intersection(*groups)
    keys = {key for group in groups for key, _ in group - shared}
    short = Counter(key.rpartition(".")[2] for key in keys)
    names = {}
    for group in groups:
        settings = dict(group)
        words = [settings.get("model", "")] if "model" in keys or not keys else []
        words += [settings["data"]] if "data" in keys and "data" in settings else []
        for key in sorted(keys - {"model", "data"}):
            if key in settings:
                last = key.rpartition(".")[2]
                words.append(f"{last if short[last] == 1 else key}={rounded(settings[key])}")
        names[group] = " ".join(filter(None, words)) or "defaults"
    return names


def shared_settings(runs: Sequence[Run]) -> dict[str, str]:
    """What all runs have in common."""
    return dict(sorted(frozenset.intersection(*(frozenset(run.settings.items()) for run in runs))))


def rounded(text: str) -> str:
    """A long number with as many digits as one reads; any other text as it is."""
    try:
        return f"{float(text):.4g}" if "." in text and len(text) > 6 else text
    except ValueError:
        return text


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Those of points (cost, value) that no other beats: none has a higher value at the same or less cost."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
