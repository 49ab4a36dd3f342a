"""Stop a run when its loss becomes NaN or infinite, while its weights are still finite."""

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from src.data.protocols import SeedsBatches


class StopOnDivergence(L.Callback):
    """Stop when the training loss is NaN or infinite, before the optimizer corrupts the weights.

    The weights from before that step are saved as `before_divergence.ckpt`, if they are all finite; `last.ckpt` stays.

    Args:
        dirpath: folder of the checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "before_divergence.ckpt"
        self._loss: Tensor | None = None

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Keep the loss, summed over the batches accumulated for one step."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Stop if the loss is not finite.

        Raises:
            FloatingPointError: the message gives the step, batch, seed, learning rate and gradient norm.
        """
        assert self._loss is not None
        loss, self._loss = self._loss, None
        diverged = not math.isfinite(loss)  # faster than `loss.isfinite()`, which takes four operations
        if trainer.world_size > 1:  # all processes stop together
            diverged = trainer.strategy.reduce_boolean_decision(diverged, all=False)
        if not diverged:
            return
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        rates = ", ".join(f"{group['lr']:.3g}" for group in optimizer.param_groups[:1])
        finite = all(parameter.isfinite().all() for parameter in pl_module.parameters())
        saved = "the weights were already non-finite"
        if finite:
            trainer.save_checkpoint(self.path)
            saved = f"the weights from before are in {self.path}"
        batch_idx = trainer.fit_loop.batch_idx
        raise FloatingPointError(
            f"The training loss is {loss.item()} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}, "
            f"batch {batch_idx}, batch seed {batch_seed(trainer, batch_idx)}, learning rate {rates}, gradient norm "
            f"{norm.item():.3g}); {saved}. Try a lower model.optimizer.lr, or clipping=norm."
        )


def batch_seed(trainer: L.Trainer, batch_idx: int) -> Any:
    """Return the seed that a batch was augmented with, if the loader records it."""
    loader: Any = trainer.train_dataloader
    return loader.batch_seeds()[batch_idx] if isinstance(loader, SeedsBatches) else "unknown"
