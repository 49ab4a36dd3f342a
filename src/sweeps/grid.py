"""Sweep over a grid: every combination of the values that the command line lists."""

import itertools
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from src.sweeps.jobs import Job, Sweep, name_of, to_do
from src.sweeps.table import summarise
from src.utils.interruption import SweepFailed, SweepInterrupted
from src.utils.job_status import FAILED, INTERRUPTED, PENDING, RUNNING

log = logging.getLogger(__name__)


class ResumableSweeper(Sweeper):
    """What sweeps have in common: a folder that knows its jobs, a launcher that runs them, and an end that tells.

    Args:
        params: overrides that a file gives, such as `{seed: "1,2,3"}`; the command line's win.
        retry_failed: run failed jobs again, too.
        fail_fast: begin no further job after one has failed.
        n_jobs: how many jobs run at once.
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        fail_fast: bool = False,
        n_jobs: int = 1,
    ) -> None:
        self.params, self.retry_failed, self.fail_fast, self.n_jobs = params or {}, retry_failed, fail_fast, n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher; Hydra calls it before the sweep."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is still to be run of the sweep that the arguments ask for.

        Raises:
            SweepInterrupted: a signal ended it; the same command goes on.
            SweepFailed: jobs have failed, and the others have ended.
        """
        given = [name_of(argument) for argument in arguments]
        words = [f"{key}={as_word(value)}" for key, value in self.params.items() if key not in given]
        overrides = OverridesParser.create(self.hydra_context.config_loader).parse_overrides([*words, *arguments])
        self.folder = Path(self.config.hydra.sweep.dir)
        try:
            jobs = self.run({override.get_key_element(): override for override in overrides})
        finally:
            if hasattr(self.launcher, "close"):
                self.launcher.close()
        summarise(jobs, self.folder)
        statuses = {job.status for job in jobs}
        command = shlex.join(["python", *sys.argv])
        if "hydra.sweep.dir=" not in command:
            command += f" hydra.sweep.dir={shlex.quote(str(self.folder))}"
        if statuses & {INTERRUPTED, PENDING, RUNNING}:
            raise SweepInterrupted(f"The sweep has not ended; to go on: {command}")
        if FAILED in statuses:
            failed = sum(job.status == FAILED for job in jobs)
            raise SweepFailed(f"{failed} of {len(jobs)} jobs failed; to try them again: {command} {RETRY}")
        return [job.facts.get("value") for job in jobs]

    def run(self, overrides: dict[str, Override]) -> list[Job]:
        """Run the jobs, and return all that the summary is to tell of."""
        raise NotImplementedError

    def open(self, keys: Sequence[str]) -> Sweep:
        """The sweep's folder, with Hydra's own record of the configuration in it."""
        found = Sweep(self.folder, str(self.config.hydra.job.name), keys)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        return found

    def check(self, jobs: Sequence[Sequence[str]]) -> None:
        """Compose jobs until every value has been seen, so that a mistake shows before the first of them runs."""
        seen: set[str] = set()
        for words in jobs:
            if not seen.issuperset(words):
                seen.update(words)
                self.hydra_context.config_loader.load_sweep_config(self.config, list(words))


RETRY = "hydra.sweeper.retry_failed=true"


class GridSweeper(ResumableSweeper):
    """Hydra's sweeper for all combinations of values: `model=mnist_cnn_68k,mnist_vit_38k seed=1,2,3`.

    A job is known by its overrides. In the folder of a former sweep over the same keys, jobs that have finished are
    left alone, interrupted ones go on from their checkpoints, and combinations that are new are added.
    """

    def run(self, overrides: dict[str, Override]) -> list[Job]:
        """Run all combinations that have not finished yet."""
        wanted = [list(words) for words in itertools.product(*(choices(one) for one in overrides.values()))]
        self.check(wanted)
        sweep = self.open([name_of(key) for key in overrides])
        with sweep.claimed():
            jobs = sweep.jobs_for(wanted)
            waiting = to_do(jobs, self.retry_failed)
            if len(waiting) < len(jobs):
                log.info("%d of %d jobs are to do", len(waiting), len(jobs))
            if waiting:
                self.launcher.launch([job.arguments() for job in waiting], initial_job_idx=waiting[0].number)
            return jobs


def choices(override: Override) -> list[str]:
    """An override once for each value that it lists.

    Raises:
        ValueError: it stands for a range of values, which a grid cannot go through, or for none at all.
    """
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not override.is_discrete_sweep():
        raise ValueError(f"{override.input_line}: a grid needs single values; ranges are for hydra/sweeper=optuna.")
    found = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not found:
        raise ValueError(f"{override.input_line} is an empty range.")
    return found


def as_word(value: Any) -> str:
    """A value of a YAML file as it is written on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
