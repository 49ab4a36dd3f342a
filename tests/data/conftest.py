"""Helpers shared by the tests of the data: files in the format of MNIST, and a DataModule over given tensors."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from src.config.paths import CONFIGS
from src.data.in_memory import InMemoryDataModule


@pytest.fixture(scope="session")
def write_idx() -> Callable[[Path, np.ndarray], Path]:
    """Write an array of bytes as an IDX file, compressed if the name ends in .gz."""

    def write(path: Path, array: np.ndarray) -> Path:
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
        content = header + array.astype(np.uint8).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, compresslevel=1) if path.suffix == ".gz" else content)
        return path

    return write


def write_photographs(folder: Path, count: int | Mapping[str, int], classes: Sequence[str] = ("cats", "dogs")) -> None:
    """Write a folder for each class with images of noise, of several sizes and modes.

    Args:
        folder: folder for the class folders.
        count: number of images per class, or a number for each class by name.
        classes: the classes, if the count is the same for all.
    """
    generator = np.random.default_rng(0)
    counts = count if isinstance(count, Mapping) else dict.fromkeys(classes, count)
    for name, images in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            height, width = generator.integers(20, 60, 2)
            picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
            mode, suffix = [("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("P", "gif")][number % 4]
            picture.convert(mode).save(folder / name / f"{number}.{suffix}")


def sizes_of(name: str, **options: Any) -> dict[str, Any]:
    """Return the sizes of a data set from its configuration, with other options."""
    wanted = ("num_classes", "channels", "image_size", "batch_size", "val_size", "train_size", "test_size")
    cfg = OmegaConf.merge(*(OmegaConf.load(CONFIGS / "data" / f"{part}.yaml") for part in ("base/in_memory", name)))
    return {key: cfg[key] for key in wanted if key in cfg} | options


class GivenTensors(InMemoryDataModule):
    """Serves the four given tensors, and counts how often they are loaded."""

    def __init__(self, *tensors: Tensor, **options: Any) -> None:
        train_images, train_labels, *_ = tensors
        defaults = {"batch_size": 128, "channels": train_images.shape[1], "image_size": train_images.shape[2]}
        super().__init__(**{**defaults, "num_classes": int(train_labels.max()) + 1, **options})
        self.tensors = tensors
        self.loads = 0

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        self.loads += 1
        train_images, train_labels, test_images, test_labels = self.tensors
        return train_images, train_labels, test_images, test_labels


@pytest.fixture(scope="session")
def given_tensors() -> type[InMemoryDataModule]:
    """Return the class of a DataModule that serves four given tensors."""
    return GivenTensors
