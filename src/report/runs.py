"""Find runs in folders, and read what they have left behind; what is lacking or damaged is lacking, and no error."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from src.sweeps.jobs import Job, name_of
from src.utils.job_status import FAILED, FINISHED, INTERRUPTED, JOB, RUNNING, STATUS
from src.utils.json_files import read_json
from src.utils.locks import is_locked

RECORD, METRICS, TEST_REPORT = "run.json", "metrics.json", "test_report.json"
# overrides that say where or how often a run is made, and not what it is
NO_SETTINGS = (
    "seed",
    "sweep",
    "resume",
    "reproduce",
    "ckpt_path",
    "tags",
    "hparams_search",
    "optimized_metric",
    "test",
)
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
        choices = self.facts.get("choices", {})
        found = {group: str(choices[group]) for group in GROUPS if group in choices}
        for override in self.overrides:
            name = name_of(override)
            if name not in NO_SETTINGS and not name.startswith(("hydra", "paths.", "extras", "logger")):
                found[name] = override.partition("=")[2]
        return found

    @property
    def seed(self) -> int | None:
        """The seed it ran with."""
        return self.facts.get("seed")

    @property
    def error(self) -> str | None:
        """What it failed by, in a sentence."""
        return self.job.get("error")

    @property
    def epochs(self) -> int | None:
        """How many epochs it trained."""
        return self.job.get("epoch") or (int(self.figures["epochs"]) if "epochs" in self.figures else None)

    @cached_property
    def test_report(self) -> dict[str, Any]:
        """Confusions and worst mistakes of each head, as `src.callbacks.image_report` has written them."""
        return read_json(self.folder / TEST_REPORT)


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
            raise FileNotFoundError(f"runs: {name} is not a folder; runs lie in logs/train/.")
        for path in sorted({path.parent for kind in (RECORD, JOB) for path in folder.rglob(kind)}, key=in_order):
            found.setdefault(path.resolve(), read_run(path))
    runs = [run for run in found.values() if not run.facts.get("choices", {}).get("debug")]
    if not runs:
        raise ValueError(f"There is no run in {', '.join(map(str, folders))}: python src/train.py makes some.")
    return runs


def in_order(path: Path) -> tuple[str, int, str]:
    """Jobs by their numbers, everything else by its name."""
    return str(path.parent), int(path.name) if path.name.isdecimal() else -1, path.name


def read_run(folder: Path) -> Run:
    """What the folder of a run tells."""
    figures = {
        name: float(value) for name, value in read_json(folder / METRICS).items() if isinstance(value, int | float)
    }
    is_job = (folder / JOB).is_file()
    job = {**read_json(folder / JOB), **read_json(folder / STATUS)} if is_job else {}
    if is_job:
        status = Job(0, (), folder).status
    elif figures:
        status = FINISHED
    elif is_locked(folder):
        status = RUNNING
    else:
        status = FAILED if (folder / "traceback.txt").is_file() else INTERRUPTED
    return Run(folder, status, figures, read_json(folder / RECORD), tuple(said(folder, job)), job)


def said(folder: Path, job: dict[str, Any]) -> Iterable[str]:
    """The overrides of a run."""
    try:
        overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        overrides = job.get("overrides")  # of a job that has not begun
    return [str(override) for override in overrides] if isinstance(overrides, list) else []


def measured_latencies(log_dir: Path) -> dict[str, float]:
    """The latency of each model that `src/benchmark.py` has measured, in milliseconds; the last one counts."""
    found: dict[str, float] = {}
    for path in sorted(log_dir.rglob("benchmark.json"), key=lambda path: path.stat().st_mtime):
        for row in read_json(path).get("models", []):
            if "macs" in row:  # a net, and no exported model
                found[row["model"]] = row["latency_ms_p50"]
    return found
