"""Fixtures for tests of callbacks: a run of a second, and a net with known predictions."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from src.data.in_memory import InMemoryDataModule
from src.data.synthetic import SyntheticDataModule
from src.models.classifier import Classifier
from src.models.components.simple_mlp import SimpleMLP


class KnownAnswers(InMemoryDataModule):
    """Test images that contain only their own index, for `AnswersByNumber` to read."""

    def __init__(self, labels: list[int], num_classes: int, channels: int = 1, names: list[str] | None = None) -> None:
        super().__init__(
            num_classes=num_classes,
            channels=channels,
            image_size=4,
            batch_size=4,
            mean=[0.0] * channels,
            std=[1 / 255] * channels,
        )
        self.labels = torch.tensor(labels)
        self.class_names = names

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        numbers = torch.arange(len(self.labels), dtype=torch.uint8).view(-1, 1, 1, 1)
        images = numbers.expand(-1, self.channels, 4, 4)
        return images, self.labels, images, self.labels


class AnswersByNumber(nn.Module):
    """Looks up its logits in a table by the index of the image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0, 0, 0].round().long()]


@pytest.fixture
def data() -> InMemoryDataModule:
    """A data set of 4 batches of 8 for training, and 2 each for validation and test."""
    return SyntheticDataModule(
        num_classes=4, channels=1, image_size=8, train_size=48, val_size=16, test_size=16, batch_size=8
    )


@pytest.fixture
def model() -> L.LightningModule:
    """A small net for `data` that learns too slowly to avoid all mistakes."""
    torch.manual_seed(0)
    net = SimpleMLP(in_channels=1, image_size=8, num_classes=4, hidden_sizes=[8])
    return Classifier(
        net, partial(torch.optim.AdamW, lr=1e-4), None, nn.CrossEntropyLoss(), (1, 8, 8), score="acc", mode="max"
    )


@pytest.fixture
def known() -> Callable[..., tuple[L.LightningModule, InMemoryDataModule]]:
    """Make a model that predicts the given class and confidence for each test image, and its data."""

    def make(
        labels: list[int],
        answers: list[tuple[int, float]],
        num_classes: int,
        channels: int = 1,
        names: list[str] | None = None,
    ) -> tuple[L.LightningModule, InMemoryDataModule]:
        probabilities = torch.empty(len(answers), num_classes)
        for row, (answer, confidence) in zip(probabilities, answers, strict=True):
            row.fill_((1 - confidence) / (num_classes - 1))
            row[answer] = confidence
        net = AnswersByNumber(probabilities.log())
        model = Classifier(
            net, torch.optim.AdamW, None, nn.CrossEntropyLoss(), (channels, 4, 4), score="acc", mode="max"
        )
        return model, KnownAnswers(labels, num_classes, channels, names)

    return make


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    """Make a trainer with the given callbacks and nothing else."""

    def make(*callbacks: L.Callback, **options: Any) -> L.Trainer:
        bar = any(isinstance(callback, L.pytorch.callbacks.ProgressBar) for callback in callbacks)
        defaults = {
            "accelerator": "cpu",
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": bar,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(callbacks=list(callbacks), **{**defaults, **options})

    return make
