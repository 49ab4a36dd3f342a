"""Sweep over a grid: every combination of the values that the command line lists."""

import itertools
import logging

from hydra.core.override_parser.types import Override

from src.config.quoting import name_of
from src.sweeps.jobs import Job, pending_jobs
from src.sweeps.objectives import best_job, rerun_command
from src.sweeps.space import values_of
from src.sweeps.sweeper import ResumableSweeper, wait_for
from src.sweeps.table import value_text

log = logging.getLogger(__name__)


class GridSweeper(ResumableSweeper):
    """Hydra's sweeper for all combinations of values: `model=mnist_cnn_68k,mnist_vit_38k seed=1,2,3`.

    A job is identified by its overrides. In the folder of an earlier sweep over the same keys, finished jobs are kept,
    interrupted ones resume from their checkpoints, and new combinations are added.
    """

    def run(self, overrides: dict[str, Override]) -> list[Job]:
        """Run all combinations that have not finished yet.

        Raises:
            ValueError: an override is a continuous range, or has no value.
        """
        for override in overrides.values():
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise ValueError(
                    f"{override.input_line}: a grid needs single values; ranges are for hydra/sweeper=optuna."
                )
        combinations = [list(words) for words in itertools.product(*(values_of(one) for one in overrides.values()))]
        self.check(combinations)
        sweep = self.open([name_of(key) for key in overrides])
        with sweep.exclusive():
            jobs = sweep.jobs_for(combinations)
            wait_for(jobs)
            pending = pending_jobs(jobs, self.retry_failed)
            if len(pending) < len(jobs):
                log.info("%d of %d jobs are pending", len(pending), len(jobs))
            self.launch(pending, len(pending))
        if (best := best_job(jobs, self.objectives)) is not None:
            metric = f"{self.objectives[0].metric} {value_text(best.facts['value'])}"
            log.info("best job %d: %s; again: %s", best.number, metric, rerun_command(best.folder))
        return jobs
