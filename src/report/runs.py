"""Find runs in folders, and read what they have left behind; a damaged one is told of, and left out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from src.config.quoting import name_of
from src.report.run_files import (
    RECORD,
    TRACEBACK,
    is_metric,
    read_error,
    read_heads,
    read_metrics,
    read_object,
    read_overrides,
    read_record,
    read_status,
)
from src.run.scores import Score
from src.run.status import FAILED, FINISHED, INTERRUPTED, JOB, PENDING, RUNNING
from src.sweeps.jobs import current_status
from src.system.json_files import part, read_json
from src.system.locks import is_locked
from src.system.safe_files import in_a_line

# overrides that say where or how often a run is made, and not what it is
NO_SETTINGS = (
    "seed",
    "sweep",
    "resume",
    "reproduce",
    "tags",
    "hparams_search",
    "optimized_metric",
    "test",
)
MEASURED = {"macs": "macs", "latency_ms": "latency_ms_p50"}  # figures, and what benchmark.json calls them
GROUPS = ("model", "data", "experiment")  # always told, for a default may have chosen them


@dataclass(frozen=True)
class Run:
    """A run, as its folder tells of it.

    Args:
        folder: the run directory.
        status: finished, failed, interrupted, pruned, running or pending.
        figures: of `metrics.json`; without those that are lacking.
        facts: of `run.json`: command, commit, versions, processor.
        overrides: what the command line said.
        job: of `job.json` and `status.json`, for the job of a sweep.
    """

    folder: Path
    status: str
    figures: dict[str, float]
    facts: dict[str, Any]
    overrides: tuple[str, ...]
    job: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, str]:
        """What makes this run differ from others, but for its seed: choices and values by their keys."""
        choices = part(self.facts, "choices")
        found = {group: str(choices[group]) for group in GROUPS if group in choices}
        for override in self.overrides:
            name = name_of(override)
            if name not in NO_SETTINGS and not name.startswith(("hydra", "paths.", "extras", "logger")):
                found[name] = normal(override.partition("=")[2])
        return found

    @property
    def seed(self) -> int | None:
        """The seed it ran with."""
        return self.facts.get("seed")

    @property
    def score(self) -> Score:
        """What says how good its model is."""
        return Score.of(self.facts)

    @property
    def started(self) -> str:
        """When it was started, in UTC; times of this form are sorted as texts."""
        return self.facts.get("started") or ""

    @cached_property
    def error(self) -> str | None:
        """What it failed by, in a sentence."""
        return self.job.get("error") or (read_error(self.folder) if self.status == FAILED else None)

    @property
    def epochs(self) -> int | None:
        """How many epochs it trained; of a run that has not ended, how many by now."""
        return int(self.figures["epochs"]) if "epochs" in self.figures else self.job.get("epoch")

    @cached_property
    def heads(self) -> dict[str, dict[str, Any]]:
        """Confusions and worst mistakes of each head."""
        return read_heads(self.folder)


class Found(NamedTuple):
    """Runs that can be compared, and a sentence for each that is damaged."""

    runs: list[Run]
    damaged: list[str]


def find_runs(folders: Sequence[str]) -> Found:
    """All runs in folders and below them, each once; those that were made to find faults are left out.

    Raises:
        FileNotFoundError: a folder is none.
        ValueError: there are none, or there is no run in any of them.
    """
    if not folders:
        raise ValueError("runs names no folder: say runs=[<folder>], or leave it out for all training runs.")
    read: dict[Path, Run | str] = {}
    for name in folders:
        if not Path(name).is_dir():
            raise FileNotFoundError(f"runs: {name} is not a folder; python src/train.py makes runs, in logs/train/.")
        for path in sorted(folders_with((RECORD, JOB), Path(name)), key=in_order):
            if (resolved := path.resolve()) not in read:
                try:
                    read[resolved] = read_run(path)
                except ValueError as error:
                    read[resolved] = str(error)
                except Exception as error:  # of whatever kind: the other runs are told of all the same
                    read[resolved] = f"{path} is damaged: {type(error).__name__}: {in_a_line(error)}"
    damaged = [one for one in read.values() if isinstance(one, str)]
    runs = [one for one in read.values() if isinstance(one, Run) and not is_excluded(one)]
    if not runs:
        where = ", ".join(map(str, folders))
        if damaged:
            raise ValueError(f"No run in {where} can be compared, {len(damaged)} damaged: {damaged[0]}")
        aside = " but for tests and runs with debug=…, which are not compared" if read else ""
        raise ValueError(f"There is no run in {where}{aside}: python src/train.py makes some.")
    return Found(runs, damaged)


def folders_with(names: Sequence[str], top: Path) -> Iterator[Path]:
    """Every folder, from one downwards, that holds something of one of these names; links are not followed."""
    folders = [str(top)]
    while folders:
        try:
            with os.scandir(folders.pop()) as scan:
                entries = list(scan)
        except OSError:  # it has just been removed, or is not ours to read
            continue
        yield from {Path(entry.path).parent for entry in entries if entry.name in names}
        folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def in_order(path: Path) -> tuple[str, int, str]:
    """Jobs by their numbers, everything else by its name."""
    return str(path.parent), int(path.name) if path.name.isdecimal() else -1, path.name


def read_run(folder: Path) -> Run:
    """What the folder of a run tells.

    Raises:
        ValueError: it is damaged, in which file and how.
    """
    figures, facts = read_metrics(folder), read_record(folder)
    told, status = read_object(folder, JOB), read_status(folder)
    job = {**told, **status} if told else {}
    if job:
        stands = job.get("status", PENDING)
        stands = current_status(folder) if stands == RUNNING else stands
    elif figures:
        stands = FINISHED
    elif is_locked(folder):
        stands = RUNNING
    else:
        stands = FAILED if (folder / TRACEBACK).is_file() else INTERRUPTED
    return Run(folder, stands, figures, facts, read_overrides(folder, told), job)


def is_excluded(run: Run) -> bool:
    """Whether a run is none to be compared: made to find a fault, or a test of another that has its own place."""
    program = str(run.facts.get("command", "")).partition(" ")[0]
    return bool(part(run.facts, "choices").get("debug")) or program.endswith("eval.py")


def normal(text: str) -> str:
    """A value as it is compared: `1e-3` and `0.0010` are `0.001`."""
    try:
        return text if text.lstrip("+-").isdecimal() else repr(float(text))
    except ValueError:
        return text


def benchmark_metrics(log_dir: Path) -> dict[tuple[str, float], dict[str, float]]:
    """The latency, in milliseconds, and MACs of each net that `src/benchmark.py` has measured: by the name of its model
    and its parameters, which its data may change. The last one counts; exported models, without MACs, are no nets."""
    found: dict[tuple[str, float], dict[str, float]] = {}
    paths = [folder / "benchmark.json" for folder in folders_with(("benchmark.json",), log_dir)]
    for path in sorted(paths, key=lambda path: path.lstat().st_mtime):
        rows = read_json(path).get("models")
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, Mapping) and all(is_metric(row.get(key)) for key in ("params", *MEASURED.values())):
                found[str(row.get("model")), row["params"]] = {name: row[key] for name, key in MEASURED.items()}
    return found
