"""Log the learning rate."""

from typing import Any

import lightning as L


class LearningRate(L.Callback):
    """Log the learning rate as `lr`, as often as the training loss.

    A single curve is enough, because schedules scale all parameter groups alike. The first group has the rate of the
    optimizer itself.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the learning rate of this step."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set dynamically by Lightning
        if every and (trainer.global_step + 1) % every == 0:
            pl_module.log("lr", trainer.optimizers[0].param_groups[0]["lr"])
