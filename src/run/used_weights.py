"""Use the weights of Schedule-Free optimizers, which train others, wherever a net is used."""

from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from src.run.checkpoint_tensors import tensor_mismatch

KEY = "trained_weights"  # in a checkpoint: those that training goes on with; `state_dict` holds those to be used


@runtime_checkable
class SwitchesWeights(Protocol):
    """An optimizer that takes gradients at other weights than those to be used (Defazio et al. 2024, arXiv 2405.15682).

    The package schedulefree has several.
    """

    def train(self) -> None:
        """Put the weights that are trained in the net."""

    def eval(self) -> None:
        """Put the weights that are to be used in the net."""


class UsedWeights(L.Callback):
    """Validate, save, test and export the weights to be used of such an optimizer; do nothing for any other.

    The optimizer computes either weights from the other, with rounding errors. A copy of those that are trained is put
    back after validation and saved in checkpoints, so that neither changes the training.
    """

    def __init__(self) -> None:
        self._trained: list[Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Train the weights that are trained; a finished run was saved with those to be used."""
        for optimizer in switching(trainer):
            optimizer.train()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the weights to be used in the net."""
        for optimizer in switching(trainer):
            self._trained = copies(pl_module)
            optimizer.eval()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the weights that are trained back."""
        for optimizer in switching(trainer):
            self._put_back(optimizer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the weights to be used in the net."""
        self.on_validation_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the weights to be used as `state_dict`, and those that are trained beside it."""
        if self._trained:  # those to be used are in the net already
            return
        for optimizer in switching(trainer):
            names = [name for name, _ in pl_module.named_parameters()]
            self._trained = copies(pl_module)
            optimizer.eval()
            checkpoint["state_dict"].update(zip(names, copies(pl_module), strict=True))
            self._put_back(optimizer, pl_module)
            checkpoint[KEY] = dict(zip(names, copies(pl_module), strict=True))

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the weights that are trained in the net to go on with training; to test, those to be used are there.

        Raises:
            ValueError: they are not of this net.
        """
        if trainer.state.fn != TrainerFn.FITTING or KEY not in checkpoint:
            return
        for name, weight in pl_module.named_parameters():
            trained = checkpoint[KEY].get(name)
            if fault := tensor_mismatch(trained, weight.shape, weight.dtype):
                raise ValueError(f"The checkpoint's {KEY} do not match this run: {name} {fault}.")
            weight.data.copy_(trained)

    def _put_back(self, optimizer: SwitchesWeights, pl_module: L.LightningModule) -> None:
        """Put the copies in the place of the weights, which are to be trained again."""
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
