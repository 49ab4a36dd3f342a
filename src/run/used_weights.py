"""Validate, save and export the averaged weights of Schedule-Free optimizers; gradients are taken at others."""

from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from src.run.checkpoint_tensors import restore

KEY = "trained_weights"  # in a checkpoint: the weights to continue training with; `state_dict` holds the averaged ones


@runtime_checkable
class SwitchesWeights(Protocol):
    """An optimizer that averages weights and takes gradients at others (Defazio et al. 2024, arXiv 2405.15682).

    The package schedulefree has several.
    """

    def train(self) -> None:
        """Put the trained weights in the net."""

    def eval(self) -> None:
        """Put the averaged weights in the net."""


class UsedWeights(L.Callback):
    """Put the averaged weights in the net for validation, checkpoints, test and export.

    It does nothing for optimizers that do not average.
    Converting one set of weights to the other rounds, so a copy of the trained weights is put back after validation and
    saved in checkpoints: training continues exactly.
    """

    def __init__(self) -> None:
        self._trained: list[Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start from the trained weights; a finished run was saved with the averaged ones."""
        self._trained = []
        for optimizer in switching(trainer):
            optimizer.train()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the averaged weights in the net."""
        for optimizer in switching(trainer):
            self._trained = copies(pl_module)
            optimizer.eval()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the trained weights back."""
        for optimizer in switching(trainer):
            self._put_back(optimizer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the averaged weights in the net."""
        self.on_validation_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the averaged weights as `state_dict`, and the trained ones beside it."""
        if self._trained:  # the averaged weights are in the net already
            return
        for optimizer in switching(trainer):
            names = [name for name, _ in pl_module.named_parameters()]
            self._trained = copies(pl_module)
            optimizer.eval()
            checkpoint["state_dict"].update(zip(names, copies(pl_module), strict=True))
            self._put_back(optimizer, pl_module)
            checkpoint[KEY] = dict(zip(names, copies(pl_module), strict=True))

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the trained weights in the net to continue training; a test keeps the averaged ones.

        Raises:
            ValueError: they do not match this net.
        """
        if trainer.state.fn != TrainerFn.FITTING or KEY not in checkpoint:
            return
        restore(dict(pl_module.named_parameters()), checkpoint[KEY], KEY)
        # a moving average of the weights, if there is one, puts these in the net after this callback
        checkpoint.get("current_model_state", {}).update(checkpoint[KEY])

    def _put_back(self, optimizer: SwitchesWeights, pl_module: L.LightningModule) -> None:
        """Restore the trained weights from the copies."""
        optimizer.train()
        with torch.no_grad():
            torch._foreach_copy_(list(pl_module.parameters()), self._trained)
        self._trained = []


def switching(trainer: L.Trainer) -> list[SwitchesWeights]:
    """Return the optimizer of a run if it switches between weights; a run has a single one, a test none."""
    return [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, SwitchesWeights)]


def copies(module: torch.nn.Module) -> list[Tensor]:
    """Return copies of all parameters of a module."""
    return [parameter.detach().clone() for parameter in module.parameters()]
