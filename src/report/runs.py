"""Find and read runs in folders; damaged runs are reported and left out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from src.config.quoting import name_of
from src.report import run_files
from src.report.run_files import is_metric
from src.run.file_names import JOB, RECORD, STATUS, TRACEBACK
from src.run.run import legacy_recipe
from src.run.scores import LEGACY_TASK, Score
from src.run.status import FAILED, FINISHED, INTERRUPTED, PENDING, RUNNING
from src.sweeps.jobs import FOLD, REPLICATES, current_status
from src.system.json_files import part, read_json
from src.system.locks import is_locked
from src.system.safe_files import in_a_line

# overrides that determine where, how often or for what purpose a configuration is run
NOT_SETTINGS = (
    *REPLICATES,
    "sweep",
    "resume",
    "reproduce",
    "tags",
    "hparams_search",
    "optimized_metric",
    "test",
    "format",
)
# settings even if not on the command line: a default may have chosen them
GROUPS = ("model", "recipe", "data", "experiment")
EACH = "each"  # replaces the fold in the settings, so that the folds of a configuration share it
BENCHMARK_KEYS = {"macs": "macs", "latency_ms": "latency_ms_p50"}  # metrics, and their keys in benchmark.json
Benchmarks = Mapping[tuple[str, float], Mapping[str, float]]  # metrics by name and parameters of the model


@dataclass(frozen=True)
class Run:
    """A run, as read from its folder."""

    folder: Path
    status: str  # one of `src.run.status.STATUSES`
    metrics: dict[str, float]  # the numbers of `metrics.json`
    record: dict[str, Any]  # `run.json`
    overrides: tuple[str, ...]
    job: dict[str, Any] = field(default_factory=dict)  # `job.json` and `status.json` of a sweep's job

    @cached_property
    def settings(self) -> dict[str, str]:
        """Return the config groups and overridden values by key that distinguish this run, except seed and fold."""
        choices = part(self.record, "choices")
        if choices:
            choices = {"recipe": legacy_recipe(self.record), **choices}
        settings = {group: str(choices[group]) for group in GROUPS if group in choices}
        for override in self.overrides:
            name = name_of(override)
            if name not in NOT_SETTINGS and not name.startswith(("hydra", "paths.", "extras", "logger")):
                settings[name] = normalize(override.partition("=")[2])
        return settings | ({FOLD: EACH} if self.fold is not None else {})

    @property
    def seed(self) -> int | None:
        """Return the seed it ran with."""
        return self.record.get("seed")

    @property
    def fold(self) -> str | None:
        """Return the validation fold in cross-validation."""
        *_, last = "null", *(override.partition("=")[2] for override in self.overrides if name_of(override) == FOLD)
        return None if last == "null" else last

    @property
    def score(self) -> Score:
        """Return the metric by which its model is judged."""
        return Score.of(self.record)

    @property
    def task(self) -> str:
        """Return the class of its task."""
        return self.record.get("task") or LEGACY_TASK

    @cached_property
    def error(self) -> str | None:
        """Return the error message of a failed run."""
        return self.job.get("error") or (run_files.read_error(self.folder) if self.status == FAILED else None)

    @property
    def epochs(self) -> int | None:
        """Return the number of epochs trained so far."""
        return int(self.metrics["epochs"]) if "epochs" in self.metrics else self.job.get("epoch")

    @cached_property
    def heads(self) -> dict[str, dict[str, Any]]:
        """Return the confusion matrix and worst mistakes of each output head."""
        return run_files.read_heads(self.folder)


class FoundRuns(NamedTuple):
    """Runs that can be compared, and an error message for each damaged run."""

    runs: list[Run]
    damaged: list[str]


def find_runs(folders: Sequence[str]) -> FoundRuns:
    """Find all runs in and below folders, each once, without evaluations and runs with `debug=…`.

    Raises:
        FileNotFoundError: one of the folders does not exist.
        ValueError: no folders are given, or none of them contains a run.
    """
    if not folders:
        raise ValueError("runs names no folder: give runs=[<folder>], or leave it out for all training runs.")
    found: dict[Path, Run | str] = {}
    for name in folders:
        if not Path(name).is_dir():
            raise FileNotFoundError(f"runs: {name} is not a folder; python src/train.py creates runs in logs/train/.")
        for path in sorted(folders_with((RECORD, JOB), Path(name)), key=sort_key):
            if (resolved := path.resolve()) not in found:
                try:
                    found[resolved] = read_run(path)
                except ValueError as error:
                    found[resolved] = str(error)
                except Exception as error:  # in any case, the other runs are shown
                    found[resolved] = f"{path} is damaged: {type(error).__name__}: {in_a_line(error)}"
    damaged = [run for run in found.values() if isinstance(run, str)]
    runs = [run for run in found.values() if isinstance(run, Run) and not is_excluded(run)]
    if not runs:
        where = ", ".join(map(str, folders))
        if damaged:
            raise ValueError(f"No run in {where} can be compared, {len(damaged)} damaged: {damaged[0]}")
        excluded = " except for tests and runs with debug=…, which are not compared" if found else ""
        raise ValueError(f"There is no run in {where}{excluded}: python src/train.py creates one.")
    return FoundRuns(runs, damaged)


def folders_with(names: Sequence[str], top: Path) -> Iterator[Path]:
    """Yield every folder, from `top` downwards, that has an entry with one of these names; links are not followed."""
    folders = [str(top)]
    while folders:
        try:
            with os.scandir(folders.pop()) as scan:
                entries = list(scan)
        except OSError:  # just removed, or not readable
            continue
        yield from {Path(entry.path).parent for entry in entries if entry.name in names}
        folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def sort_key(path: Path) -> tuple[str, int, str]:
    """Sort the jobs of a sweep by number, other folders by name."""
    return str(path.parent), int(path.name) if path.name.isdecimal() else -1, path.name


def read_run(folder: Path) -> Run:
    """Read the folder of a run.

    Raises:
        ValueError: one of its files is damaged.
    """
    metrics, record = run_files.read_metrics(folder), run_files.read_object(folder, RECORD)
    job, job_status = run_files.read_object(folder, JOB), run_files.read_object(folder, STATUS)
    if job:
        status = job_status.get("status", PENDING)
        status = current_status(folder) if status == RUNNING else status
    elif metrics:
        status = FINISHED
    elif is_locked(folder):
        status = RUNNING
    else:
        status = FAILED if (folder / TRACEBACK).is_file() else INTERRUPTED
    overrides = run_files.read_overrides(folder, job)
    return Run(folder, status, metrics, record, overrides, {**job, **job_status} if job else {})


def is_excluded(run: Run) -> bool:
    """Return whether a run is for debugging or evaluates another run."""
    program = str(run.record.get("command", "")).partition(" ")[0]
    return bool(part(run.record, "choices").get("debug")) or program.endswith("eval.py")


def normalize(text: str) -> str:
    """Normalise numbers: `1e-3` and `0.0010` become `0.001`."""
    try:
        return text if text.lstrip("+-").isdecimal() else repr(float(text))
    except ValueError:
        return text


def read_benchmarks(log_dir: Path) -> Benchmarks:
    """Read the latest measurements of `src/benchmark.py` under a folder: MACs, and latency in milliseconds.

    The parameters are part of the key because they depend on the data. Exported models, without MACs, are left out.
    """
    benchmarks: dict[tuple[str, float], dict[str, float]] = {}
    paths = [folder / "benchmark.json" for folder in folders_with(("benchmark.json",), log_dir)]
    for path in sorted(paths, key=lambda path: path.lstat().st_mtime):
        rows = read_json(path).get("models")
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, Mapping) and all(
                is_metric(row.get(key)) for key in ("params", *BENCHMARK_KEYS.values())
            ):
                metrics = {name: row[key] for name, key in BENCHMARK_KEYS.items()}
                benchmarks[str(row.get("model")), row["params"]] = metrics
    return benchmarks
