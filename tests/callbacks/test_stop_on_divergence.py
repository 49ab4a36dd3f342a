"""A loss that is not finite ends the run while the weights still are."""

import re
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from src.callbacks.stop_on_divergence import StopOnDivergence
from src.data.in_memory import InMemoryDataModule
from src.run.checkpoints import read_checkpoint


class Diverges(nn.Module):
    """Return an infinite loss from the third call on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        return nn.functional.cross_entropy(logits, labels) * (float("inf") if self.calls > 2 else 1)


def test_the_run_stops_with_a_sentence_and_saves_the_last_finite_weights(
    model: L.LightningModule, data: InMemoryDataModule, trainer: Callable[..., L.Trainer], tmp_path: Path
) -> None:
    model.criterion = Diverges()
    run = trainer(StopOnDivergence(str(tmp_path)), num_sanity_val_steps=0)
    with pytest.raises(FloatingPointError) as error:
        run.fit(model, data)
    seed = run.train_dataloader.batch_seeds()[2]
    pattern = (
        rf"loss is inf at step 2 \(epoch 1, batch 2, batch seed {seed}, learning rate 0.0001, gradient norm (nan|inf)\)"
    )
    assert re.search(pattern, str(error.value)) and "clipping=norm" in str(error.value)
    kept = read_checkpoint(tmp_path / "before_divergence.ckpt")
    assert kept["global_step"] == 2
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_non_finite_weights_are_not_saved(
    model: L.LightningModule, data: InMemoryDataModule, trainer: Callable[..., L.Trainer], tmp_path: Path
) -> None:
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="already non-finite"):
        trainer(StopOnDivergence(str(tmp_path)), num_sanity_val_steps=0).fit(model, data)
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_finite_loss_does_not_stop(
    model: L.LightningModule, data: InMemoryDataModule, trainer: Callable[..., L.Trainer], tmp_path: Path
) -> None:
    run = trainer(StopOnDivergence(str(tmp_path)))
    run.fit(model, data)
    assert run.global_step == 4 and not list(tmp_path.glob("*.ckpt"))


def test_a_torch_loader_without_batch_seeds_stops_with_the_same_sentence(
    model: L.LightningModule, trainer: Callable[..., L.Trainer], tmp_path: Path
) -> None:
    model.criterion = Diverges()
    loader = DataLoader(TensorDataset(torch.randn(32, 1, 8, 8), torch.arange(32) % 4), batch_size=8)
    with pytest.raises(FloatingPointError, match=r"batch 2, batch seed unknown, learning rate"):
        trainer(StopOnDivergence(str(tmp_path)), num_sanity_val_steps=0).fit(model, loader)
