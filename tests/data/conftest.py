"""What the tests of the data share: files in the format of MNIST, and a DataModule over given tensors."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from src.data.in_memory import InMemoryDataModule


@pytest.fixture(scope="session")
def write_idx() -> Callable[[Path, np.ndarray], Path]:
    """Write an array of bytes as an IDX file, compressed where the name ends in .gz."""

    def write(path: Path, array: np.ndarray) -> Path:
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
        content = header + array.astype(np.uint8).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, compresslevel=1) if path.suffix == ".gz" else content)
        return path

    return write


class GivenTensors(InMemoryDataModule):
    """Serves the four tensors it is given, and counts how often they were asked for."""

    def __init__(self, *tensors: Tensor, **options: Any) -> None:
        train_images, train_labels, *_ = tensors
        defaults = {"channels": train_images.shape[1], "image_size": train_images.shape[2]}
        super().__init__(**{**defaults, "num_classes": int(train_labels.max()) + 1, **options})
        self.tensors = tensors
        self.loads = 0

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        self.loads += 1
        train_images, train_labels, test_images, test_labels = self.tensors
        return train_images, train_labels, test_images, test_labels


@pytest.fixture(scope="session")
def given_tensors() -> type[InMemoryDataModule]:
    """The class of a DataModule that serves the four tensors it is given."""
    return GivenTensors
