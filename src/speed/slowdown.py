"""Warn when other programs slow down training."""

import logging
import time
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from src.system.cpu import allowed_cpus, load_average

log = logging.getLogger(__name__)

RECOVERED = 0.75  # share of the best speed above which the next slowdown is reported again


class SlowdownWatch(L.Callback):
    """Warn once when train steps become much slower than the fastest of this run.

    Args:
        seconds: training time over which the speed is averaged.
        ratio: share of the best speed below which to warn.
    """

    def __init__(self, seconds: float = 5.0, ratio: float = 0.5) -> None:
        if seconds <= 0:
            raise ValueError(f"seconds={seconds} must be above 0.")
        if not 0 < ratio < RECOVERED:
            raise ValueError(f"ratio={ratio} must be between 0 and {RECOVERED}.")
        self.seconds, self.ratio = seconds, ratio
        self._best, self._warned, self._image_size = 0.0, False, 0
        self._spent, self._images = 0.0, 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock; validation, checkpoints and logging between steps do not count."""
        self._spent += time.perf_counter() - self._start
        self._image_size = self._image_size or batch[0][0].numel()
        self._images += batch[0].numel() / self._image_size  # in images of the first size: data.sizes may enlarge them
        if self._spent >= self.seconds:
            self.check_speed(self._images / self._spent)
            self._spent, self._images = 0.0, 0.0

    @rank_zero_only
    def check_speed(self, speed: float) -> None:
        """Compare a speed in images per second with the best so far."""
        self._best = max(self._best, speed)
        if speed < self.ratio * self._best and not self._warned:
            log.warning(
                "Training has fallen from %.0f to %.0f images/s: other programs use the CPU (load %s on %d CPUs).",
                self._best,
                speed,
                load_average(),
                allowed_cpus(),
            )
            self._warned = True
        elif speed >= RECOVERED * self._best:
            self._warned = False
