"""The base of all sweepers: a folder that records its jobs, a launcher that runs them, and a summary at the end."""

import itertools
import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from src.config.objectives import check_objectives, objectives
from src.config.quoting import name_of
from src.run.file_names import RECORD
from src.run.interruption import SweepFailed, SweepInterrupted
from src.run.scores import Score
from src.run.status import FAILED, INTERRUPTED, PENDING, RUNNING
from src.sweeps.ending import Ending, typed_command
from src.sweeps.jobs import Job, Sweep, arguments_of, jobs_in, without_sweep_keys
from src.sweeps.launcher import LocalLauncher
from src.sweeps.objectives import Objective, objectives_of
from src.sweeps.space import override_text
from src.sweeps.table import summarise
from src.sweeps.task import template
from src.system.json_files import read_json
from src.system.safe_files import printable
from src.system.wording import counted

log = logging.getLogger(__name__)

RETRY = "hydra.sweeper.retry_failed=true"
LAUNCHER_EXTRAS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}  # by the package of the plugin
POLL_SECONDS = 0.5


class ResumableSweeper(Sweeper):
    """A sweep that can be interrupted at any moment and resumed in the same folder.

    Args:
        params: overrides of the configuration, such as `{seed: "1,2,3"}`; those of the command line win.
        retry_failed: also run failed jobs again.
        fail_fast: start no further job after one has failed.
        n_jobs: number of jobs that run at once.
    """

    config: DictConfig
    hydra_context: HydraContext
    objectives: Sequence[Objective] = ()  # set by `check`

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        fail_fast: bool = False,
        n_jobs: int = 1,
    ) -> None:
        self.params, self.retry_failed, self.fail_fast, self.n_jobs = params or {}, retry_failed, fail_fast, n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Build the launcher; Hydra calls it before the sweep.

        Raises:
            ModuleNotFoundError: the launcher belongs to an extra that is not installed.
        """
        self.hydra_context, self.config = hydra_context, config
        try:
            self.launcher: Launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )
        except RuntimeError as error:
            extra = LAUNCHER_EXTRAS.get(config.hydra.launcher._target_.split(".")[1])
            if extra is None or "Unknown plugin" not in str(error):
                raise
            choice = config.hydra.runtime.choices["hydra/launcher"]
            raise ModuleNotFoundError(
                f"hydra/launcher={choice} needs a package that is not installed: pip install -e '.[{extra}]'"
            ) from error
        self.ending = self.launcher.ending if isinstance(self.launcher, LocalLauncher) else Ending(self.resume_hint)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the pending jobs of the sweep.

        Returns:
            The value of the objectives of each job.

        Raises:
            SweepInterrupted: a signal ended it; the same command resumes it.
            SweepFailed: some jobs failed; all others have ended.
            ValueError: the name of its folder is invalid, or the folder belongs to another sweep.
        """
        name = str(self.config.get("sweep", "unnamed") or "")
        if not name:
            raise ValueError("sweep= is empty: use sweep=<name>, or leave it out for a folder named by the time.")
        if name in (".", "..") or {"/", "\\"} & {*name}:
            raise ValueError(f"sweep={name} is not a name: for a folder elsewhere, use hydra.sweep.dir=<folder>.")
        given = [name_of(argument) for argument in arguments]
        words = [override_text(key, value) for key, value in self.params.items() if key not in given]
        overrides = self.parse([*words, *arguments])
        self.folder = Path(self.config.hydra.sweep.dir).resolve()
        self.ending.sentence = self.resume_hint
        self.ending.listen()
        try:
            jobs = self.run({override.get_key_element(): override for override in overrides})
        finally:
            if isinstance(self.launcher, LocalLauncher):
                self.launcher.close()
        summarise(jobs, self.folder, objectives=self.objectives)
        statuses = {job.status for job in jobs}
        if statuses & {INTERRUPTED, PENDING, RUNNING}:
            raise SweepInterrupted(self.resume_hint())
        if FAILED in statuses:
            failed = sum(job.status == FAILED for job in jobs)
            raise SweepFailed(
                f"{failed} of {counted(len(jobs), 'job')} failed; to try them again: {self.command()} {RETRY}"
            )
        return [job.facts.get("value") for job in jobs]

    def run(self, overrides: dict[str, Override]) -> list[Job]:
        """Run the jobs, and return those that the summary lists."""
        raise NotImplementedError

    def parse(self, words: list[str]) -> list[Override]:
        """Parse overrides; patterns such as `glob(mnist_*)` match the files of a config group."""
        return OverridesParser.create(self.hydra_context.config_loader).parse_overrides(words)

    def resume_hint(self) -> str:
        """Say that jobs are pending, and how to resume the sweep."""
        return f"The sweep has not ended; to resume: {self.command()}"

    def command(self) -> str:
        """Return the command that resumes this sweep."""
        command = typed_command(RETRY)
        if any(word.startswith(("sweep=", "hydra.sweep.dir=")) for word in sys.argv):
            return command
        name = f"sweep={self.folder.name}" if "sweep" in self.config else f"hydra.sweep.dir={self.folder}"
        return f"{command} {shlex.quote(name)}"

    def open(self, keys: Sequence[str]) -> Sweep:
        """Open the folder of the sweep and save Hydra's configuration in it."""
        sweep = Sweep(self.folder, str(self.config.hydra.job.config_name), keys)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        return sweep

    def check(self, jobs: Iterable[Sequence[str]]) -> None:
        """Compose jobs until every value has occurred, so that errors show before the first job runs.

        The score of their tasks also gives the direction of the objectives. Values of jobs that are already in the
        folder were checked when they were added; of the numbers for a key, only the first is checked.
        """
        known = jobs_in(self.folder)
        seen = {template(word) for job in known for word in job.overrides}
        score, names = recorded_score(known), objectives(self.config)
        for words in jobs:
            templates = {template(word) for word in without_sweep_keys(words)}
            if score is None or not templates <= seen:
                seen |= templates
                cfg = self.compose(words)
                job_score = Score.of(OmegaConf.select(cfg, "model") or {})
                score = score or job_score
                if objectives_of(names, job_score) != objectives_of(names, score):
                    raise ValueError(
                        f"optimized_metric={','.join(names)} would be maximised in some jobs and minimised in others, "
                        "because their tasks differ: run a sweep for each task."
                    )
                check_job(cfg)
        if score is not None:
            self.objectives = objectives_of(names, score)

    def compose(self, words: Sequence[str]) -> DictConfig:
        """Compose the configuration of a job; a launcher on this machine keeps it for the job itself."""
        if isinstance(self.launcher, LocalLauncher):
            return self.launcher.task.compose(arguments_of(words, self.folder, number=0))
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(words))

    def launch(
        self, jobs: Iterable[Job], total: int, batch_size: int | None = None, ended: Callable[[Job], None] | None = None
    ) -> None:
        """Run jobs.

        Args:
            jobs: consumed one by one as there is capacity.
            total: number of jobs, for the display.
            batch_size: jobs per batch, for launchers that block until a whole batch has ended; None: all jobs.
            ended: called with each job after it has ended.
        """
        if isinstance(self.launcher, LocalLauncher):
            self.launcher.run(jobs, total, ended)
            return
        gave_up = False
        for batch in batches(iter(jobs), batch_size):
            try:
                with self.ending.suspended():
                    self.launcher.launch([job.arguments() for job in batch], initial_job_idx=batch[0].number)
            except KeyboardInterrupt:
                raise SweepInterrupted(self.resume_hint()) from None
            except Exception as error:  # raised by the engine; jobs report their own status
                log.error("The launcher failed: %s", error)
                gave_up = True  # it would fail for the other batches as well
            for job in batch:
                if ended:
                    ended(job)
            if gave_up or (self.fail_fast and any(job.status == FAILED for job in batch)):
                return


def recorded_score(jobs: Iterable[Job]) -> Score | None:
    """Return the score recorded by the first job that has started; None if no job has."""
    records = (read_json(job.folder / RECORD) for job in jobs)
    return next((Score.of(record) for record in records if record), None)


def check_job(cfg: DictConfig) -> None:
    """Check that a composed configuration can run as a job.

    Raises:
        ValueError: it needs several processes, or optimises a test metric although the test is switched off.
    """
    strategy = str(OmegaConf.select(cfg, "trainer.strategy", throw_on_resolution_failure=False))
    if strategy.startswith("ddp"):
        raise ValueError(
            f"trainer.strategy={strategy}: a job of a sweep is one process; sweep with trainer=cpu or trainer=gpu, or "
            "start the runs one by one: for seed in 1 2 3; do python src/train.py trainer=ddp seed=$seed; done"
        )
    check_objectives(cfg)


def batches(jobs: Iterator[Job], size: int | None) -> Iterator[list[Job]]:
    """Yield batches of `size` jobs, or a single batch for None."""
    while batch := list(itertools.islice(jobs, size)):
        yield batch


def wait_for(jobs: Iterable[Job]) -> None:
    """Wait for jobs of other processes, such as those that are still saving because their launcher was killed."""
    for job in jobs:
        if job.status == RUNNING:
            facts = job.facts
            process, host = facts.get("pid", "unknown"), printable(facts.get("host", "unknown"))
            log.info("Waiting for job %d, run by process %s on %s.", job.number, process, host)
            while job.status == RUNNING:
                time.sleep(POLL_SECONDS)
