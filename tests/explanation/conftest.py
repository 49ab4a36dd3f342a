"""Test subjects: synthetic images, and nets with little training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from src.data.synthetic import SyntheticDataModule
from src.explanation.subject import Subject
from src.models.classifier import Classifier
from src.models.task import Task

MakeSubject = Callable[..., Subject]


def synthetic(**options: Any) -> SyntheticDataModule:
    """200 test images of 4 classes, 1×8×8, 140 for validation."""
    sizes = {"train_size": 300, "val_size": 140, "test_size": 200, "batch_size": 50, "image_size": 8}
    datamodule = SyntheticDataModule(**{"num_classes": 4, "channels": 1, **sizes, **options})
    datamodule.setup()
    return datamodule


def classifier(net: nn.Module, size: int = 8) -> Task:
    """A classifier of images 1×8×8, to be used."""
    task = Classifier(net, torch.optim.AdamW, None, nn.CrossEntropyLoss(), (1, size, size), score="acc", mode="max")
    return task.eval()


@pytest.fixture
def make_subject() -> MakeSubject:
    """Make a subject from a net and synthetic images."""

    def make(net: nn.Module, limit: int = 1000, **options: Any) -> Subject:
        return Subject(classifier(net), synthetic(**options), limit)

    return make
