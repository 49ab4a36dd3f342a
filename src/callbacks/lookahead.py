"""Lookahead: move the weights part of the way back every few steps."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from src.run.checkpoint_tensors import restore
from src.run.used_weights import switching


class Lookahead(L.Callback):
    """Keep slow weights that follow the weights, and reset the weights to them (Zhang et al. 2019, arXiv 1907.08610).

    Every few steps, and at the end of each epoch, slow = slow + alpha · (weights - slow), and the weights are reset to
    the slow ones, which are therefore validated. The optimizer keeps its momentum. timm's class is not used: it wraps
    the optimizer, and lacks the hooks that check a checkpoint's states before they are loaded.

    Args:
        alpha: step of the slow weights towards the weights, as a fraction of their distance.
        every_n_steps: optimizer steps between updates of the slow weights.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(self, alpha: float = 0.5, every_n_steps: int = 6) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"lookahead.alpha={alpha} must be above 0 and below 1.")
        if every_n_steps < 2:
            raise ValueError(f"lookahead.every_n_steps={every_n_steps} must be at least 2: 1 only shortens steps.")
        self.alpha, self.every_n_steps = alpha, every_n_steps
        self._slow: dict[str, Tensor] = {}
        self._restored: dict[str, Tensor] = {}
        self._step = 0  # the last step that was handled

    def state_dict(self) -> dict[str, Any]:
        """Return the slow weights."""
        return {"slow": self._slow}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the slow weights until training starts."""
        self._restored = state_dict["slow"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse optimizers that average the weights themselves.

        Raises:
            ValueError: the optimizer does.
        """
        if switching(trainer):
            raise ValueError("This optimizer averages the weights itself: leave out callbacks.lookahead.")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start from the weights, or from restored slow weights.

        Raises:
            ValueError: the restored ones do not fit these weights.
        """
        restored, self._restored, self._step = self._restored, {}, trainer.global_step
        weights = {name: weight.detach() for name, weight in pl_module.named_parameters()}
        self._slow = {name: weight.clone() for name, weight in weights.items()}
        if restored:
            restore(self._slow, restored, "slow weights")

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the slow weights and reset the weights to them, if it is time."""
        if trainer.global_step == self._step:  # another batch of the same step
            return
        self._step = trainer.global_step
        if self._step % self.every_n_steps == 0 or trainer.is_last_batch:
            slow, weights = list(self._slow.values()), [weight.data for weight in pl_module.parameters()]
            torch._foreach_lerp_(slow, weights, self.alpha)
            torch._foreach_copy_(weights, slow)
