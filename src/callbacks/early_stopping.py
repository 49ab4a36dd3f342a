"""Early stopping that waits for training images to reach their full size."""

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from src.models.task import Task


class EarlyStopping(LightningEarlyStopping):
    """Stop a run whose validation metric no longer improves.

    Epochs whose training images are smaller than those of later epochs (`data.sizes`) do not count.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check after an epoch of images of full size."""
        if not trains_below_full_size(pl_module):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check after a validation in an epoch of images of full size."""
        if not trains_below_full_size(pl_module):
            super().on_validation_end(trainer, pl_module)


def trains_below_full_size(pl_module: L.LightningModule) -> bool:
    """Return whether the training images of the current epoch are smaller than those of later ones."""
    return isinstance(pl_module, Task) and pl_module.trains_below_full_size()
