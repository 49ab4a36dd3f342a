"""The jobs of a sweep: which there are, how they stand, and what is still to be done."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from hydra.core.override_parser.overrides_parser import OverridesParser

from src.config.quoting import name_of
from src.run.status import DONE, FAILED, INTERRUPTED, JOB, PENDING, RUNNING, facts_of, now, status_of, update_status
from src.system.json_files import read_json, write_json
from src.system.locks import is_locked, locked
from src.system.safe_files import printable

SWEEP = "sweep.json"
BUSY = "another process runs this sweep."
NAMES = ("sweep",)  # overrides that say where the sweep is kept, and nothing of its jobs


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Args:
        number: of the job, and the name of its folder in the sweep's; never given twice.
        overrides: what the job is known by.
        folder: where it runs.
    """

    number: int
    overrides: tuple[str, ...]
    folder: Path
    _final: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def key(self) -> frozenset[str]:
        """What makes it this job and no other, in whatever order it was written."""
        return key_of(self.overrides)

    @property
    def status(self) -> str:
        """How the job stands."""
        return self.facts["status"] if self._final else current_status(self.folder, self.facts.get("status", PENDING))

    @property
    def facts(self) -> dict[str, Any]:
        """What the job has told of itself; once it is done for good, that is not read again."""
        if self._final:
            return self._final
        facts = facts_of(self.folder)
        if facts.get("status") in DONE:
            self._final.update(facts)
        return facts

    def arguments(self) -> list[str]:
        """The overrides to launch it with; where it has begun before, it goes on from its last checkpoint by itself."""
        quoted = str(self.folder.parent.resolve()).replace("'", "\\'")
        return [*self.overrides, f"hydra.sweep.dir='{quoted}'", f"hydra.sweep.subdir={self.number}"]


class Sweep:
    """The folder of a sweep, `sweep.json` in it, and a folder for every job.

    Args:
        folder: of the sweep; made where there is none.
        task: what the jobs do: train, benchmark.
        keys: the names of all that the sweep's command line sets.

    Raises:
        ValueError: the folder is that of another sweep.
    """

    def __init__(self, folder: Path, task: str, keys: Iterable[str]) -> None:
        self.folder = folder
        identity = {"task": task, "keys": sorted({*keys} - {*NAMES})}
        with locked(folder, BUSY):
            if not (folder / SWEEP).is_file():
                if any(child.name.isdecimal() for child in folder.iterdir()):
                    raise ValueError(f"{folder} holds other runs and no {SWEEP}: choose another folder for this sweep.")
                write_json(folder / SWEEP, {**identity, "next_job": 0, "started": now()})
        known = read_json(folder / SWEEP)
        if not (type(known.get("next_job")) is int and are_texts(known.get("keys"))):
            raise ValueError(f"{folder / SWEEP} is damaged: choose another folder for this sweep.")
        self._unused = 1 + max((int(child.name) for child in folder.iterdir() if child.name.isdecimal()), default=-1)
        if {key: known.get(key) for key in identity} != identity:
            was = printable(f"{known.get('task')} over {', '.join(known['keys'])}")
            raise ValueError(
                f"{folder} is the folder of another sweep, {was}; this one is {task} over "
                f"{', '.join(identity['keys'])}: choose another folder."
            )

    def jobs(self) -> list[Job]:
        """All jobs that there are, by their numbers."""
        return jobs_in(self.folder)

    def add(self, overrides: Sequence[str], number: int | None = None, **facts: Any) -> Job:
        """Add a job, under the next number unless one is given."""
        if number is None:
            content = read_json(self.folder / SWEEP)
            number = max(content["next_job"], self._unused)  # a folder is never given twice, whatever the file says
            write_json(self.folder / SWEEP, {**content, "next_job": number + 1})
        kept = without_names(overrides)
        job = Job(number, tuple(kept), self.folder / str(number))
        job.folder.mkdir(exist_ok=True)
        write_json(job.folder / JOB, {"number": number, "overrides": kept, **facts})
        return job

    def jobs_for(self, wanted: Iterable[Sequence[str]]) -> list[Job]:
        """The job of each list of overrides: the one that is there, or one that is added."""
        jobs = self.jobs()
        as_written = {frozenset(job.overrides): job for job in jobs}
        by_key: dict[frozenset[str], Job] | None = None  # reading overrides takes its time: only where it has to be
        found = []
        for overrides in map(without_names, wanted):
            job = as_written.get(frozenset(overrides))
            if job is None:
                by_key = {job.key: job for job in jobs} if by_key is None else by_key
                key = key_of(overrides)
                if key not in by_key:
                    by_key[key] = self.add(overrides)
                job = by_key[key]
            found.append(job)
        return found

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep others from launching this sweep's jobs.

        Raises:
            ValueError: another process is launching them.
        """
        return locked(self.folder, BUSY)


def jobs_in(folder: Path) -> list[Job]:
    """All jobs that a sweep's folder holds, by their numbers.

    Raises:
        ValueError: the file of one is damaged.
    """
    found = []
    for path in folder.glob(f"*/{JOB}"):
        if path.parent.name.isdecimal():
            overrides = read_json(path).get("overrides")
            if not are_texts(overrides):
                raise ValueError(f"{path} is damaged: delete its folder, and the sweep runs that job anew.")
            found.append(Job(int(path.parent.name), tuple(overrides), path.parent))
    return sorted(found, key=lambda job: job.number)


def are_texts(value: Any) -> TypeGuard[list[str]]:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def current_status(folder: Path, told: str | None = None) -> str:
    """How the job of a folder stands; one that was running and that nobody works at any more has been interrupted.

    Args:
        folder: of the job.
        told: its status, where that has just been read.
    """
    status = told or status_of(folder)
    if status == RUNNING and not is_locked(folder):
        status = status_of(folder)  # it may have ended between the two looks
        return INTERRUPTED if status == RUNNING else status
    return status


def pending_jobs(jobs: Iterable[Job], retry_failed: bool) -> list[Job]:
    """The jobs that are still to be run: new ones, interrupted ones and, on request, failed ones."""
    wanted = {PENDING, INTERRUPTED} | ({FAILED} if retry_failed else set())
    return [job for job in jobs if job.status in wanted]


def mark_lost(job: Job, sentence: str) -> None:
    """Let the status of a job tell that its process has died, unless it could still tell how it ended."""
    if status_of(job.folder) in (PENDING, RUNNING):
        update_status(job.folder, status=FAILED, ended=now(), error=sentence)


def mark_interrupted(job: Job) -> None:
    """Let the status of a job tell that its process was ended, unless it could still tell how it ended."""
    if status_of(job.folder) == RUNNING:
        update_status(job.folder, status=INTERRUPTED, ended=now())


def key_of(overrides: Iterable[str]) -> frozenset[str]:
    """What a list of overrides sets, in whatever order and notation: `lr=0.10` is `lr=0.1`."""
    return frozenset(f"{key}={value}" for key, value in dict(map(read_override, overrides)).items())


@cache
def read_override(text: str) -> tuple[str, str]:
    """The key of an override and its value, in one notation; the jobs of a grid have most of theirs in common."""
    (override,) = OverridesParser.create().parse_overrides([text])
    return override.get_key_element(), repr(None if override.is_delete() else override.value())


def without_names(overrides: Iterable[str]) -> list[str]:
    """The overrides that make a job what it is, without those that name its sweep."""
    return [word for word in overrides if name_of(word) not in NAMES]
