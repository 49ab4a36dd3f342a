"""Run the jobs of a sweep on this machine, one after another in this process or several at once in worker processes."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from src.cli.entry_point import set_env
from src.cli.errors import describe
from src.run.interruption import RESUMABLE, Interrupted
from src.run.status import FAILED, INTERRUPTED
from src.sweeps.ending import Ending, blocked, leave_terminal
from src.sweeps.jobs import Job, mark_interrupted, mark_lost
from src.sweeps.table import Progress, describe_job
from src.sweeps.task import Task
from src.system.cpu import allowed_cpus, physical_cores
from src.system.links import open_to_append

log = logging.getLogger(__name__)

REFRESH_SECONDS = 0.5
EXIT_SECONDS = 10  # time for an idle process to exit
# exit codes of terminated processes: their jobs have not failed and can be resumed
TERMINATION_CODES = (-signal.SIGTERM, -9, RESUMABLE)


class LocalLauncher(Launcher):
    """Hydra's launcher for one machine.

    A single job at a time runs in this process. Otherwise each of `n_jobs` worker processes takes one job after another
    and uses its share of the cores, so that each process imports only once.

    Args:
        n_jobs: number of jobs that run at once.
        fail_fast: start no further job after one has failed.

    Raises:
        ValueError: there are not enough cores.
    """

    def __init__(self, n_jobs: int = 1, fail_fast: bool = False) -> None:
        cpus = allowed_cpus()
        if not isinstance(n_jobs, int) or not 1 <= n_jobs <= cpus:
            raise ValueError(f"n_jobs={n_jobs}: this machine has the cores for 1 to {cpus} jobs at once.")
        self.n_jobs, self.fail_fast = n_jobs, fail_fast
        self._workers: list[Worker] = []
        self._current: Job | None = None  # the job that runs in this process
        self.ending = Ending(lambda: "Interrupted.", lambda: bool(self._busy()), self._abandon)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what jobs need; Hydra calls it before launching any."""
        self.task = Task(hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs given by their overrides, as Hydra's own sweepers do, and return their results."""
        folder = Path(self.task.config.hydra.sweep.dir)
        jobs = [
            Job(number, tuple(overrides), folder / str(number))
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        self.run(jobs, len(jobs))
        return [job_return(job) for job in jobs]

    def run(self, jobs: Iterable[Job], total: int, ended: Callable[[Job], None] | None = None) -> None:
        """Run jobs until all have ended, one has failed with `fail_fast` set, or a signal arrives.

        Args:
            jobs: consumed one by one as there is capacity.
            total: number of jobs, for the display.
            ended: called with each job after it has ended.
        """
        setup_globals()
        self.ending.listen()
        if self.n_jobs == 1:
            self._one_by_one(jobs, total, ended or ignore)
        else:
            self._in_parallel(iter(jobs), total, ended or ignore)

    def _one_by_one(self, jobs: Iterable[Job], total: int, ended: Callable[[Job], None]) -> None:
        for position, job in enumerate(jobs, 1):
            log.info("job %d (%d of %d): %s", job.number, position, total, describe_job(job))
            self._current = job
            result = self.task.run(job)
            self._current = None
            ended(job)
            failed = result.status == JobStatus.FAILED
            if failed and (self.fail_fast or isinstance(result._return_value, Interrupted)):
                break

    def _in_parallel(self, jobs: Iterator[Job], total: int, ended: Callable[[Job], None]) -> None:
        exhausted = False  # no further job is started
        with Progress(total) as progress:
            while True:
                while not exhausted and not self.ending.stop_requested and len(self._busy()) < self.n_jobs:
                    job = next(jobs, None)
                    if job is None:
                        exhausted = True
                    else:
                        self._idle().start(job)
                busy = self._busy()
                if not busy:
                    break
                progress.show([worker.job for worker in busy if worker.job])
                wait([worker.connection for worker in busy], timeout=REFRESH_SECONDS)
                for worker in busy:
                    job = worker.collect()
                    if job is not None:
                        ended(job)
                        progress.log(job)
                        exhausted |= self.fail_fast and job.status == FAILED
                self._workers = [worker for worker in self._workers if not worker.exited]
                if self.ending.stop_requested:
                    for worker in self._busy():
                        worker.end_job()

    def _busy(self) -> list["Worker"]:
        return [worker for worker in self._workers if worker.job is not None]

    def _idle(self) -> "Worker":
        for worker in self._workers:
            if worker.job is None:
                return worker
        with set_env("OMP_NUM_THREADS", str(max(1, physical_cores() // self.n_jobs))):
            self._workers.append(Worker(self.task))
        return self._workers[-1]

    def close(self) -> None:
        """End the workers, which are kept between batches of jobs; a job that still runs saves its state."""
        for worker in self._busy():
            worker.end_job()
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(EXIT_SECONDS)
            worker.kill()
        self._workers.clear()

    def _abandon(self) -> None:
        """Kill everything that runs, and mark the jobs as interrupted."""
        running = [worker.job for worker in self._busy()] + [self._current]
        for worker in self._workers:
            worker.kill()
        for child in active_children():  # a worker that has just been started, or a job's data loaders
            child.kill()
        for job in running:
            if job is not None:
                mark_interrupted(job)


class Worker:
    """A process that runs one job after another.

    Args:
        task: runs a job.
    """

    def __init__(self, task: Task) -> None:
        context = get_context("spawn")  # a fork would copy locks that other threads hold
        self.connection, other = context.Pipe()
        self.process = context.Process(target=run_worker, args=(other, task, Singleton.get_state()["instances"]))
        resource_tracker.ensure_running()  # started later, it would unblock the signals
        with blocked():
            self.process.start()
        other.close()  # so that the death of the process ends the connection
        self.job: Job | None = None
        self.exited = self._terminated = False

    def start(self, job: Job) -> None:
        """Send a job to the process."""
        self.connection.send(job)
        self.job = job

    def collect(self) -> Job | None:
        """Return the job of the process if the job has ended or the process died; None while it runs."""
        job = self.job
        if job is None or not self.connection.poll():
            return None
        try:
            self.exited = not self.connection.recv()
        except (EOFError, OSError):
            self.exited = True
            self.process.join(EXIT_SECONDS)
            self.kill()
            code = self.process.exitcode or 0
            if self._terminated or code in TERMINATION_CODES:
                mark_interrupted(job)
            else:
                how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
                mark_lost(job, f"The process of this job ended {how}; its output is in {job.folder}/console.log")
        self.job = None
        return job

    def end_job(self) -> None:
        """Tell the job to save its state and end."""
        if not self._terminated:
            self._terminated = True
            self.process.terminate()

    def kill(self) -> None:
        """Kill the process and all processes that its job has started."""
        if os.name == "posix" and self.process.pid is not None:  # Windows has no process groups
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(EXIT_SECONDS)


def run_worker(connection: Connection, task: Task, singletons: Any) -> None:
    """Run the jobs that are sent over the connection until it is closed."""
    job: Job | None = None
    leave_terminal(Ending(lambda: "Interrupted.", abandon=lambda: mark_interrupted(job) if job else None))
    threading.Thread(target=end_with_parent, daemon=True).start()
    Singleton._instances.update(singletons)  # without OmegaConf's resolvers, which cannot be pickled
    setup_globals()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        assert job is not None
        try:
            with console_to(job.folder / "console.log"):
                result = task.run(job)
        except OSError as error:  # on a full disk Hydra fails before the job starts
            sys.exit(f"ERROR: {describe(error)}")
        continues = not isinstance(result._return_value, Interrupted)
        try:
            connection.send(continues)
        except OSError:  # the launcher has been killed
            return
        if not continues:
            return


def end_with_parent() -> None:
    """Make the job save and end when the launcher is killed, so that no process is orphaned."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def console_to(path: Path) -> Iterator[None]:
    """Append all output of this process and its children to a file."""
    streams = {stream.fileno(): os.dup(stream.fileno()) for stream in (sys.__stdout__, sys.__stderr__) if stream}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_to_append(path) as file:
        for number in streams:
            os.dup2(file.fileno(), number)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in streams.items():
                os.dup2(saved, number)
                os.close(saved)


def ignore(job: Job) -> None:
    """Do nothing when a job ends."""


def job_return(job: Job) -> JobReturn:
    """Return the result of a job, in Hydra's form."""
    result, facts = JobReturn(), job.facts
    result.overrides = list(job.overrides)
    failed = job.status in (FAILED, INTERRUPTED)
    result.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    result.return_value = RuntimeError(facts.get("error") or "interrupted") if failed else facts.get("value")
    return result
