"""Sweep over a grid: every combination of the values that the command line lists."""

import itertools
import logging

from hydra.core.override_parser.types import Override

from src.config.quoting import name_of
from src.sweeps.jobs import Job, pending_jobs
from src.sweeps.objectives import again, best_job
from src.sweeps.space import values_of
from src.sweeps.sweeper import ResumableSweeper, wait_for
from src.sweeps.table import value

log = logging.getLogger(__name__)


class GridSweeper(ResumableSweeper):
    """Hydra's sweeper for all combinations of values: `model=mnist_cnn_68k,mnist_vit_38k seed=1,2,3`.

    A job is known by its overrides. In the folder of a former sweep over the same keys, jobs that have finished are
    left alone, interrupted ones go on from their checkpoints, and combinations that are new are added.
    """

    def run(self, overrides: dict[str, Override]) -> list[Job]:
        """Run all combinations that have not finished yet.

        Raises:
            ValueError: an override stands for a range of values, which a grid cannot go through, or for none at all.
        """
        for override in overrides.values():
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise ValueError(
                    f"{override.input_line}: a grid needs single values; ranges are for hydra/sweeper=optuna."
                )
        wanted = [list(words) for words in itertools.product(*(values_of(one) for one in overrides.values()))]
        self.check(wanted)
        sweep = self.open([name_of(key) for key in overrides])
        with sweep.exclusive():
            jobs = sweep.jobs_for(wanted)
            wait_for(jobs)
            waiting = pending_jobs(jobs, self.retry_failed)
            if len(waiting) < len(jobs):
                log.info("%d of %d jobs are to do", len(waiting), len(jobs))
            self.launch(waiting, len(waiting))
        if (best := best_job(jobs, self.objectives)) is not None:
            figure = f"{self.objectives[0].metric} {value(best.facts['value'])}"
            log.info("best job %d: %s; again: %s", best.number, figure, again(best.folder))
        return jobs
