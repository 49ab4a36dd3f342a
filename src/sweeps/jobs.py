"""The jobs of a sweep, their status, and which are pending."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from hydra.core.override_parser.overrides_parser import OverridesParser

from src.config.quoting import name_of
from src.run.file_names import JOB
from src.run.status import DONE, FAILED, INTERRUPTED, PENDING, RUNNING, facts_of, now, status_of, update_status
from src.system.json_files import read_json, write_json
from src.system.locks import is_locked, locked
from src.system.safe_files import printable

SWEEP = "sweep.json"
BUSY = "another process runs this sweep."
SWEEP_KEYS = ("sweep",)  # overrides that name the sweep's folder and say nothing about its jobs
FOLD = "data.fold"
REPLICATES = ("seed", FOLD)  # overrides that repeat a configuration, with other draws or another validation set


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Args:
        number: number of the job, also the name of its folder; never reused.
        overrides: identify the job.
        folder: its run directory.
    """

    number: int
    overrides: tuple[str, ...]
    folder: Path
    _final: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def key(self) -> frozenset[str]:
        """Identify the job, whatever the order and notation of its overrides."""
        return key_of(self.overrides)

    @property
    def status(self) -> str:
        """Return the current status."""
        return self.facts["status"] if self._final else current_status(self.folder, self.facts.get("status", PENDING))

    @property
    def facts(self) -> dict[str, Any]:
        """Return the content of its `status.json`, cached once the job is done."""
        if self._final:
            return self._final
        facts = facts_of(self.folder)
        if facts.get("status") in DONE:
            self._final.update(facts)
        return facts

    def arguments(self) -> list[str]:
        """Return the overrides to launch it with; an interrupted job resumes from its last checkpoint."""
        return arguments_of(self.overrides, self.folder.parent, self.number)


class Sweep:
    """The folder of a sweep, `sweep.json` in it, and a folder for every job.

    Args:
        folder: folder of the sweep; created if it does not exist.
        task: what the jobs run: train, benchmark.
        keys: the keys that the command line sets.

    Raises:
        ValueError: the folder belongs to another sweep.
    """

    def __init__(self, folder: Path, task: str, keys: Iterable[str]) -> None:
        self.folder = folder
        identity = {"task": task, "keys": sorted({*keys} - {*SWEEP_KEYS})}
        with locked(folder, BUSY):
            if not (folder / SWEEP).is_file():
                if any(child.name.isdecimal() for child in folder.iterdir()):
                    raise ValueError(f"{folder} holds other runs and no {SWEEP}: choose another folder for this sweep.")
                write_json(folder / SWEEP, {**identity, "next_job": 0, "started": now()})
        known = read_json(folder / SWEEP)
        if not (type(known.get("next_job")) is int and is_string_list(known.get("keys"))):
            raise ValueError(f"{folder / SWEEP} is damaged: choose another folder for this sweep.")
        self._unused = 1 + max((int(child.name) for child in folder.iterdir() if child.name.isdecimal()), default=-1)
        if {key: known.get(key) for key in identity} != identity:
            other = printable(f"{known.get('task')} over {', '.join(known['keys'])}")
            raise ValueError(
                f"{folder} belongs to another sweep, {other}; this one is {task} over "
                f"{', '.join(identity['keys'])}: choose another folder."
            )

    def jobs(self) -> list[Job]:
        """Return all jobs, sorted by number."""
        return jobs_in(self.folder)

    def add(self, overrides: Sequence[str], number: int | None = None, **facts: Any) -> Job:
        """Add a job under the given number, or under the next one."""
        if number is None:
            content = read_json(self.folder / SWEEP)
            number = max(content["next_job"], self._unused)  # never reuse a folder, whatever the file says
            write_json(self.folder / SWEEP, {**content, "next_job": number + 1})
        kept = without_sweep_keys(overrides)
        job = Job(number, tuple(kept), self.folder / str(number))
        job.folder.mkdir(exist_ok=True)
        write_json(job.folder / JOB, {"number": number, "overrides": kept, **facts})
        return job

    def jobs_for(self, requested: Iterable[Sequence[str]]) -> list[Job]:
        """Return the job for each list of overrides, added if the sweep has none yet."""
        jobs = self.jobs()
        as_written = {frozenset(job.overrides): job for job in jobs}
        by_key: dict[frozenset[str], Job] | None = None  # parsing overrides is slow: only if needed
        selected = []
        for overrides in map(without_sweep_keys, requested):
            job = as_written.get(frozenset(overrides))
            if job is None:
                by_key = {job.key: job for job in jobs} if by_key is None else by_key
                key = key_of(overrides)
                if key not in by_key:
                    by_key[key] = self.add(overrides)
                job = by_key[key]
            selected.append(job)
        return selected

    def exclusive(self) -> AbstractContextManager[None]:
        """Prevent other processes from launching jobs of this sweep.

        Raises:
            ValueError: another process is launching them.
        """
        return locked(self.folder, BUSY)


def jobs_in(folder: Path) -> list[Job]:
    """Return all jobs in the folder of a sweep, sorted by number.

    Raises:
        ValueError: a `job.json` is damaged.
    """
    jobs = []
    for path in folder.glob(f"*/{JOB}"):
        if path.parent.name.isdecimal():
            overrides = read_json(path).get("overrides")
            if not is_string_list(overrides):
                raise ValueError(f"{path} is damaged: delete its folder, and the sweep runs that job again.")
            jobs.append(Job(int(path.parent.name), tuple(overrides), path.parent))
    return sorted(jobs, key=lambda job: job.number)


def is_string_list(value: Any) -> TypeGuard[list[str]]:
    """Return whether a value is a list of strings."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def current_status(folder: Path, recorded: str | None = None) -> str:
    """Return the status of a job; a job recorded as running whose process has ended is interrupted.

    Args:
        folder: folder of the job.
        recorded: its status, if it has just been read.
    """
    status = recorded or status_of(folder)
    if status == RUNNING and not is_locked(folder):
        status = status_of(folder)  # it may have ended in between
        return INTERRUPTED if status == RUNNING else status
    return status


def pending_jobs(jobs: Iterable[Job], retry_failed: bool) -> list[Job]:
    """Return the jobs to run: new ones, interrupted ones and, on request, failed ones."""
    statuses = {PENDING, INTERRUPTED} | ({FAILED} if retry_failed else set())
    return [job for job in jobs if job.status in statuses]


def mark_lost(job: Job, sentence: str) -> None:
    """Mark a job as failed because its process died, unless it has recorded its own end."""
    if status_of(job.folder) in (PENDING, RUNNING):
        update_status(job.folder, status=FAILED, ended=now(), error=sentence)


def mark_interrupted(job: Job) -> None:
    """Mark a job as interrupted, unless it has recorded its own end."""
    if status_of(job.folder) == RUNNING:
        update_status(job.folder, status=INTERRUPTED, ended=now())


def key_of(overrides: Iterable[str]) -> frozenset[str]:
    """Identify a list of overrides whatever its order and notation: `lr=0.10` is `lr=0.1`."""
    return frozenset(f"{key}={value}" for key, value in dict(map(read_override, overrides)).items())


@cache
def read_override(text: str) -> tuple[str, str]:
    """Return the key and the canonical value of an override; cached, since the jobs of a grid share most of theirs."""
    (override,) = OverridesParser.create().parse_overrides([text])
    return override.get_key_element(), repr(None if override.is_delete() else override.value())


def arguments_of(overrides: Sequence[str], sweep: Path, number: int) -> list[str]:
    """Return the overrides to launch a job with in the folder of its sweep."""
    quoted = str(sweep.resolve()).replace("'", "\\'")
    return [*overrides, f"hydra.sweep.dir='{quoted}'", f"hydra.sweep.subdir={number}"]


def without_sweep_keys(overrides: Iterable[str]) -> list[str]:
    """Return the overrides of a job without those that name its sweep."""
    return [word for word in overrides if name_of(word) not in SWEEP_KEYS]
