"""Group runs into configurations, ignoring seed and fold; means, standard deviations and Pareto fronts."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from src.report.runs import BENCHMARK_KEYS, Benchmarks, Run
from src.run.status import FINISHED

Settings = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Configuration:
    """Runs that differ only in seed and validation fold."""

    label: str  # the settings that distinguish it from the others
    runs: tuple[Run, ...]  # finished or not
    benchmarks: Benchmarks = field(default_factory=dict)

    def finished_runs(self, metric: str) -> list[Run]:
        """Return the latest finished run with a metric for each seed and fold; others are not independent samples."""
        runs: dict[Any, Run] = {}
        for run in sorted(self.runs, key=lambda run: run.record.get("started") or ""):  # UTC, which sorts as text
            if metric in run.metrics and run.status == FINISHED:
                runs[str(run.folder) if run.seed is None else (run.seed, run.fold)] = run
        return list(runs.values())

    def values(self, metric: str) -> list[float]:
        """Return a metric for each seed and fold that has it; for costs that no run measured, the benchmark's value."""
        values = [run.metrics[metric] for run in self.finished_runs(metric)]
        if not values and metric in BENCHMARK_KEYS and (params := self.values("params")):
            benchmark = self.benchmarks.get((self.runs[0].settings.get("model", ""), params[0]), {})
            return [benchmark[metric]] if benchmark else []
        return values

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds and folds; None if no run has the metric."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Return the sample standard deviation over seeds and folds; None for fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def statuses(self) -> Counter[str]:
        """Return the number of runs by status."""
        return Counter(run.status for run in self.runs)


def group_runs(
    runs: Iterable[Run], metric: str, minimised: bool = False, benchmarks: Benchmarks | None = None
) -> list[Configuration]:
    """Group runs of equal settings, sorted by a metric, the best first and those without it last."""
    groups: dict[Settings, list[Run]] = {}
    for run in runs:
        groups.setdefault(frozenset(run.settings.items()), []).append(run)
    labels = label_groups(groups)
    configurations = [Configuration(labels[key], tuple(members), benchmarks or {}) for key, members in groups.items()]

    def rank(configuration: Configuration) -> tuple[bool, float]:
        mean = configuration.mean(metric)
        return mean is None, (mean or 0.0) * (1 if minimised else -1)

    return sorted(configurations, key=rank)


def repeated(runs: Iterable[Run]) -> str:
    """Return in what the runs of a configuration differ: "seeds", "folds" or both."""
    runs = list(runs)
    if all(run.fold is None for run in runs):
        return "seeds"
    return "folds" if len({run.seed for run in runs}) == 1 else "seeds and folds"


def label_groups(groups: Iterable[Settings]) -> dict[Settings, str]:
    """Label each group with the settings that not all groups share."""
    groups = list(groups)
    keys = {key for group in groups for key, _ in group - frozenset.intersection(*groups)}
    short = Counter(key.rpartition(".")[2] for key in keys)
    labels = {}
    for group in groups:
        settings = dict(group)
        words = [settings.get("model", "")] if "model" in keys or not keys else []
        words += [settings.get("data", "")] if "data" in keys else []
        for key in sorted(keys & settings.keys() - {"model", "data"}):
            last = key.rpartition(".")[2]
            words.append(f"{last if short[last] == 1 else key}={shorten_number(settings[key])}")
        labels[group] = " ".join(filter(None, words)) or "defaults"
    return labels


def shared_settings(runs: Sequence[Run]) -> dict[str, str]:
    """Return the settings that all runs share."""
    return dict(sorted(frozenset.intersection(*(frozenset(run.settings.items()) for run in runs))))


def shorten_number(text: str) -> str:
    """Round a long number to four digits; other text stays as it is."""
    try:
        return f"{float(text):.4g}" if "." in text and len(text) > 6 else text
    except ValueError:
        return text


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the Pareto-optimal points (cost, value), with low cost and high value."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
