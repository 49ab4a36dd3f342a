"""Frozen parts keep their weights and statistics until the epoch that unfreezes them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from src.models.classifier import Classifier
from src.models.freezing import Freezing

ADAMW = partial(torch.optim.AdamW, lr=0.1)


def small_net() -> nn.Sequential:
    """Two layers, with statistics of the first one's outputs, and dropout."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


class Snapshots(L.Callback):
    """Keeps the net's state at the end of every epoch, and the modes of its modules in every step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.modes: list[list[bool]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.states.append({name: value.clone() for name, value in pl_module.net.state_dict().items()})

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.modes.append([module.training for module in pl_module.net])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.on_train_start(trainer, pl_module)

    def changed(self, epoch: int) -> set[str]:
        """Return what an epoch, counted from 1, has changed."""
        before, after = self.states[epoch - 1 : epoch + 1]
        return {name for name in before if not torch.equal(before[name], after[name])}


Fit = Callable[..., Snapshots]


@pytest.fixture
def fit() -> Fit:
    """Train for 3 epochs of 2 steps, validated in the middle of each."""

    def train(optimizer: Any = ADAMW, net: nn.Module | None = None, **options: Any) -> Snapshots:
        model = Classifier(
            net or small_net(), optimizer, None, nn.CrossEntropyLoss(), (4,), score="acc", mode="max", **options
        )
        snapshots = Snapshots()
        batches = DataLoader(TensorDataset(torch.randn(8, 4), torch.arange(8) % 3), batch_size=4)
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=3,
            val_check_interval=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[snapshots],
        )
        trainer.fit(model, batches, batches)
        return snapshots

    return train


ALL = {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}
HEAD = {"4.weight", "4.bias"}


def test_without_freezing_everything_is_trained(fit: Fit) -> None:
    assert fit().changed(1) == ALL | HEAD


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_what_is_frozen_keeps_weights_and_statistics(fit: Fit, optimizer: Any) -> None:
    """Weight decay does not touch it, and its norms are in evaluation mode, but not its dropout."""
    snapshots = fit(partial(optimizer, lr=0.1, weight_decay=0.5), freeze=["0", "1"])
    for epoch in (1, 2, 3):
        assert snapshots.changed(epoch) == HEAD
    assert snapshots.modes == [[True, False, True, True, True]] * 6


def test_it_is_trained_from_its_epoch_on(fit: Fit) -> None:
    snapshots = fit(freeze=["*", "-4"], unfreeze={"1": 2, "0.weight": 3})
    assert snapshots.changed(1) == HEAD
    assert snapshots.changed(2) == HEAD | {name for name in ALL if name.startswith("1.")}
    assert snapshots.changed(3) == (HEAD | ALL) - {"0.bias"}
    assert [modes[1] for modes in snapshots.modes] == [False, False, True, True, True, True]


def test_weights_of_a_norm_alone_leave_its_statistics_moving(fit: Fit) -> None:
    snapshots = fit(freeze=["1.weight", "1.bias"])
    assert snapshots.changed(2) == (ALL | HEAD) - {"1.weight", "1.bias"}
    assert all(modes[1] for modes in snapshots.modes)


def test_what_the_net_has_frozen_itself_stays_so(fit: Fit) -> None:
    net = small_net()
    net[0].weight.requires_grad_(False)
    snapshots = fit(net=net, freeze=["0"], unfreeze={"0": 2})
    assert snapshots.changed(3) == (ALL | HEAD) - {"0.weight"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"freeze": ["5"]}, r"model\.freeze: nothing in the net is named 5\. The net has: 0, 1, 4"),
        ({"freeze": ["0"], "unfreeze": {"1": 2}}, r"model\.unfreeze: nothing in the net is named 1"),
        ({"freeze": ["*"]}, r"model\.freeze=\['\*'\] leaves nothing to train"),
    ],
)
def test_mistakes_are_named_before_training(fit: Fit, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit(**options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"unfreeze": {"0": 2}}, r"unfreeze=\{'0': 2\}: nothing is frozen"),
        ({"freeze": ["0"], "unfreeze": {"0": 1}}, r"unfreeze\.0=1 must be an epoch above 1"),
        ({"freeze": ["0"], "unfreeze": ["0"]}, r"unfreeze=\['0'\] must be a mapping of names to epochs"),
        ({"freeze": ["0"], "unfreeze": {"0": "late"}}, r"unfreeze\.0=late must be an epoch"),
    ],
)
def test_values_out_of_range_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Freezing(**options)
