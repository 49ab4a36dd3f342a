"""Find runs in folders, and read what they have left behind; what is lacking or damaged is lacking, and no error."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from src.sweeps.jobs import name_of, standing
from src.utils.job_status import FAILED, FINISHED, INTERRUPTED, JOB, RUNNING, STATUS
from src.utils.json_files import part, read_json
from src.utils.locks import is_locked

RECORD, METRICS, TEST_REPORT, TRACEBACK = "run.json", "metrics.json", "test_report.json", "traceback.txt"
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
LATENCY = ("params", "latency_ms_p50")  # what benchmark.json tells of each net; of exported models no "macs"
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
        seed = self.facts.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def started(self) -> str:
        """When it was started, in UTC; times of this form are sorted as texts."""
        return str(self.facts.get("started", ""))

    @property
    def error(self) -> str | None:
        """What it failed by, in a sentence."""
        if self.job.get("error"):
            return str(self.job["error"])
        if self.status != FAILED or not (self.folder / TRACEBACK).is_file():
            return None
        return (self.folder / TRACEBACK).read_text(errors="replace").strip().rpartition("\n")[2]

    @property
    def epochs(self) -> int | None:
        """How many epochs it trained."""
        return self.job.get("epoch") or (int(self.figures["epochs"]) if "epochs" in self.figures else None)

    @cached_property
    def heads(self) -> dict[str, dict[str, Any]]:
        """Confusions and worst mistakes of each head, as `src.callbacks.image_report` has written them."""
        heads = part(read_json(self.folder / TEST_REPORT), "heads")
        return {name: head for name, head in heads.items() if is_head(head)}


def find_runs(folders: Sequence[str]) -> list[Run]:
    """All runs in folders and below them, each once; those that were made to find faults are left out.

    Raises:
        FileNotFoundError: a folder is none.
        ValueError: there are none, or there is no run in any of them.
    """
    if not folders:
        raise ValueError("runs names no folder: say runs=[<folder>], or leave it out for all training runs.")
    found: dict[Path, Run] = {}
    for name in folders:
        folder = Path(name)
        if not folder.is_dir():
            raise FileNotFoundError(f"runs: {name} is not a folder; python src/train.py makes runs, in logs/train/.")
        for path in sorted({path.parent for kind in (RECORD, JOB) for path in folder.rglob(kind)}, key=in_order):
            found.setdefault(path.resolve(), read_run(path))
    runs = [run for run in found.values() if not is_aside(run)]
    if not runs:
        aside = " but for tests and runs with debug=…, which are not compared" if found else ""
        raise ValueError(f"There is no run in {', '.join(map(str, folders))}{aside}: python src/train.py makes some.")
    return runs


def in_order(path: Path) -> tuple[str, int, str]:
    """Jobs by their numbers, everything else by its name."""
    return str(path.parent), int(path.name) if path.name.isdecimal() else -1, path.name


def read_run(folder: Path) -> Run:
    """What the folder of a run tells."""
    figures = {name: float(value) for name, value in read_json(folder / METRICS).items() if is_number(value)}
    is_job = (folder / JOB).is_file()
    job = {**read_json(folder / JOB), **read_json(folder / STATUS)} if is_job else {}
    if is_job:
        status = standing(folder)
    elif figures:
        status = FINISHED
    elif is_locked(folder):
        status = RUNNING
    else:
        status = FAILED if (folder / TRACEBACK).is_file() else INTERRUPTED
    return Run(folder, status, figures, read_json(folder / RECORD), tuple(said(folder, job)), job)


def said(folder: Path, job: dict[str, Any]) -> Iterable[str]:
    """The overrides of a run."""
    try:
        overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        overrides = job.get("overrides")  # of a job that has not begun
    return [str(override) for override in overrides] if isinstance(overrides, list) else []


def is_aside(run: Run) -> bool:
    """Whether a run is none to be compared: made to find a fault, or a test of another that has its own place."""
    program = str(run.facts.get("command", "")).partition(" ")[0]
    return bool(part(run.facts, "choices").get("debug")) or program.endswith("eval.py")


def is_number(value: Any) -> bool:
    """Whether what a JSON file holds is a figure; NaN and infinity are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_head(head: Any) -> bool:
    """Whether a report of a test is whole: names, a square of counts, and mistakes with all that is told of them."""
    if not isinstance(head, Mapping):
        return False
    classes, counts, mistakes = (head.get(key) for key in ("classes", "counts", "mistakes"))
    if not (isinstance(classes, list) and isinstance(counts, list) and isinstance(mistakes, list)):
        return False
    square = len(counts) == len(classes) and all(isinstance(row, list) and len(row) == len(classes) for row in counts)
    return (
        square
        and all(isinstance(count, int) for row in counts for count in row)
        and all(isinstance(one, Mapping) and {"label", "predicted", "png"} <= one.keys() for one in mistakes)
        and all(is_number(one.get("confidence")) for one in mistakes)
    )


def normal(text: str) -> str:
    """A value as it is compared: `1e-3` and `0.0010` are `0.001`."""
    try:
        return text if text.lstrip("+-").isdecimal() else repr(float(text))
    except ValueError:
        return text


def measured_latencies(log_dir: Path) -> dict[tuple[str, float], float]:
    """The latency, in milliseconds, of each net that `src/benchmark.py` has measured: by the name of its model and its
    parameters, which its data may change. The last one counts."""
    found: dict[tuple[str, float], float] = {}
    for path in sorted(log_dir.rglob("benchmark.json"), key=lambda path: path.stat().st_mtime):
        rows = read_json(path).get("models")
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, Mapping) and "macs" in row and all(is_number(row.get(key)) for key in LATENCY):
                found[str(row.get("model")), row["params"]] = row["latency_ms_p50"]
    return found
