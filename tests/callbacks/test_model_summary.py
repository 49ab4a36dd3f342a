"""The summary describes a single image."""

from collections.abc import Callable
from functools import partial

import lightning as L
import pytest
import torch
from torch import nn

from src.callbacks.model_summary import ModelSummary
from src.models.classifier import Classifier


def test_flops_are_for_one_image_even_with_batchnorm(
    data: L.LightningDataModule, trainer: Callable[..., L.Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    model = Classifier(
        net, partial(torch.optim.SGD, lr=0.1), None, nn.CrossEntropyLoss(), (1, 8, 8), score="acc", mode="max"
    )
    run = trainer(ModelSummary(), log_every_n_steps=1)
    run.fit(model, datamodule=data)
    assert "Total FLOPs: 1.1 K" in capsys.readouterr().out  # 2 * (64 * 8 + 8 * 4)
    assert model.example_input_array.shape == (2, 1, 8, 8)  # the graph is drawn in training mode, which needs two
