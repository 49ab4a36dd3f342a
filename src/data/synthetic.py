"""Random but learnable images of any shape and number of classes, for benchmarks and smoke tests."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from src.data.in_memory import InMemoryDataModule


class SyntheticDataModule(InMemoryDataModule):
    """Each class is a smooth random pattern; a sample is its pattern with noise of the same strength.

    Args:
        train_size: training and validation images.
        test_size: test images.
        data_seed: seed of the patterns, labels and noise.
        options: see `InMemoryDataModule`.
    """

    def __init__(self, *, train_size: int, test_size: int, data_seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        for name, value in {"train_size": train_size, "test_size": test_size}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        self.train_size, self.test_size, self.data_seed = train_size, test_size, data_seed

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw patterns, labels and noise."""
        generator = torch.Generator().manual_seed(self.data_seed)
        coarse = torch.randn(self.num_own_classes, self.channels, 4, 4, generator=generator)
        patterns = 128 + 40 * F.interpolate(coarse, (self.image_size, self.image_size), mode="bilinear")
        count = self.train_size + self.test_size
        labels = torch.randint(self.num_own_classes, (count,), generator=generator)  # (N,)
        images = torch.empty(count, self.channels, self.image_size, self.image_size, dtype=torch.uint8)
        for part, part_labels in zip(images.split(256), labels.split(256), strict=True):
            noise = 40 * torch.randn(part.shape, generator=generator)
            part.copy_((patterns[part_labels] + noise).clamp_(0, 255))
        sizes = [self.train_size, self.test_size]
        (train, test), (train_labels, test_labels) = images.split(sizes), labels.split(sizes)
        return train, train_labels, test, test_labels
