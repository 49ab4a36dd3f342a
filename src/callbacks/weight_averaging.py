"""Average the weights over the steps of training, and use the average for evaluation, checkpoints and export."""

import itertools
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor


class AverageWeights(WeightAveraging):
    """Validate, save, test and export an average of the weights, while training continues with the weights themselves.

    Checkpoints hold the average as `state_dict`, and the weights in addition, so that a resumed run continues exactly.
    Running statistics of norms are averaged, too. Until the first average, the weights themselves are used.

    Args:
        decay: decay of an exponential moving average (Polyak & Juditsky 1992): after n averages, the next one is
            d · average + (1 - d) · weights with d = min(decay, (1 + n) / (10 + n)), so that it soon forgets the
            first weights. None: the mean of all (SWA, Izmailov et al. 2018, arXiv 1803.05407).
        start: fraction of the run before the first average.
        every_n_steps: optimizer steps between averages; None: one at the end of each epoch.

    Raises:
        ValueError: a value is out of its range, or `start` is given for a run without an end.
    """

    def __init__(self, decay: float | None = 0.999, start: float = 0.0, every_n_steps: int | None = 1) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be in [0, 1), or null for the mean of all weights.")
        if not 0 <= start < 1:
            raise ValueError(f"start={start} is a fraction of the run and must be in [0, 1).")
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps} must be at least 1, or null for once an epoch.")
        super().__init__(multi_avg_fn=self.average)
        self.decay, self.start, self.every_n_steps = decay, start, every_n_steps

    @torch.no_grad()
    def average(self, averages: Any, weights: Any, count: Tensor | int) -> None:
        """Move `averages` of `count` steps, a list of tensors, towards the `weights` of another step, in place."""
        n = float(count)
        share = 1 / (n + 1) if self.decay is None else 1 - min(self.decay, (1 + n) / (10 + n))
        if torch.is_floating_point(averages[0]):
            torch._foreach_lerp_(averages, weights, share)
        else:  # such as the number of batches that a norm has seen
            torch._foreach_copy_(averages, weights)

    @property
    def is_averaging(self) -> bool:
        """Whether there is an average yet."""
        return self._average_model is not None and bool(self._average_model.n_averaged > 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Check `start`, and give the average the memory layout of the weights."""
        assert self._average_model is not None
        self._average_model.to(next(pl_module.parameters()).device)  # it was copied before the net moved there
        if self.start and trainer.estimated_stepping_batches == float("inf") and pl_module.pace is None:
            raise ValueError(f"start={self.start} is a fraction of the run, which has no end: set trainer.max_epochs.")
        for average, weight in zip(tensors(self._average_model.module), tensors(pl_module), strict=True):
            if average.stride() != weight.stride():  # channels-last: other strides are averaged one by one, slowly
                average.data = torch.empty_like(weight).copy_(average)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the weights to the average, once a step or at the end of an epoch, before its validation."""
        step = trainer.global_step
        if step <= self._latest_update_step:  # another batch of the same step
            return
        if self.start and pl_module.finished_fraction() <= self.start:
            return
        if step % self.every_n_steps == 0 if self.every_n_steps else trainer.is_last_batch:
            assert self._average_model is not None
            self._average_model.update_parameters(pl_module)
            self._latest_update_step = step

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return False: `on_train_batch_end` has updated the average already."""
        return False

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replace the weights with the average, once there is one."""
        if self.is_averaging:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the weights."""
        if self.is_averaging:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the net."""
        if self.is_averaging:
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as `state_dict`, and the weights in addition."""
        if self.is_averaging:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore both if training continues; for a test, the average is loaded already."""
        # Lightning's method would load the weights over the average in a test, too
        if trainer.state.fn == TrainerFn.FITTING and "current_model_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def tensors(module: torch.nn.Module) -> Iterator[Tensor]:
    """Return the parameters and buffers of a module."""
    return itertools.chain(module.parameters(), module.buffers())
