"""Notice when other programs take the processor from a training."""

import logging
import time
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from src.utils.cpu import allowed_cpus, load_average

log = logging.getLogger(__name__)

RECOVERED = 0.75  # of the best speed: a fall after that is told again


class SlowdownWatch(L.Callback):
    """Say in one line when the speed of the train steps has fallen far below the best that this run has seen.

    Args:
        seconds: of train steps that a speed is measured over.
        ratio: of the best speed, below which it is told.
    """

    def __init__(self, seconds: float = 5.0, ratio: float = 0.5) -> None:
        if seconds <= 0:
            raise ValueError(f"seconds={seconds} must be more than 0.")
        if not 0 < ratio < RECOVERED:
            raise ValueError(f"ratio={ratio} must lie between 0 and {RECOVERED}.")
        self.seconds, self.ratio = seconds, ratio
        self._best, self._told = 0.0, False
        self._spent, self._images = 0.0, 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of a step."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop it; validation, checkpoints and logs between steps do not count."""
        self._spent += time.perf_counter() - self._start
        self._images += len(batch[0])
        if self._spent >= self.seconds:
            self.judge(self._images / self._spent)
            self._spent, self._images = 0.0, 0

    @rank_zero_only
    def judge(self, speed: float) -> None:
        """Compare a speed, in images per second, with the best."""
        self._best = max(self._best, speed)
        if speed < self.ratio * self._best and not self._told:
            log.warning(
                "Training has fallen from %.0f to %.0f images/s: others use the processor (a load of %s on %d CPUs).",
                self._best,
                speed,
                load_average(),
                allowed_cpus(),
            )
            self._told = True
        elif speed >= RECOVERED * self._best:
            self._told = False
