"""The latency of a net is a metric of its run, and measuring it changes nothing else."""

from collections.abc import Callable

import lightning as L
import pytest
import torch

from src.data.in_memory import InMemoryDataModule
from src.speed.latency import Latency


def weights_after(trainer: L.Trainer, model: L.LightningModule, data: InMemoryDataModule) -> list[torch.Tensor]:
    torch.manual_seed(1)
    trainer.fit(model, datamodule=data)
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_it_is_measured_and_the_training_is_the_same(
    trainer: Callable[..., L.Trainer], model: L.LightningModule, data: InMemoryDataModule
) -> None:
    import copy

    other = copy.deepcopy(model)
    measured = trainer(Latency(seconds=0.01))
    with_it = weights_after(measured, model, data)
    without = weights_after(trainer(), other, data)
    assert 0 < float(measured.callback_metrics["latency_ms"]) < 1000
    assert all(torch.equal(one, two) for one, two in zip(with_it, without, strict=True))  # dropout was drawn, too


def test_seconds_must_be_more_than_none() -> None:
    with pytest.raises(ValueError, match=r"latency\.seconds=0 must be above 0"):
        Latency(seconds=0)
