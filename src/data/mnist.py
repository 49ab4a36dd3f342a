"""MNIST and Fashion-MNIST, from the published IDX files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.download import download
from src.data.idx import read_idx
from src.data.in_memory import InMemoryDataModule

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
OFFICIAL_SIZES = (60_000, 10_000)  # training, test


class MNISTDataModule(InMemoryDataModule):
    """MNIST (LeCun et al. 1998): 60,000 training and 10,000 test digits, 1×28×28, with the official test set.

    The defaults are those of `configs/data/mnist.yaml`, for use without a configuration.

    Args:
        data_dir: the files are in `<data_dir>/MNIST/raw`, as torchvision keeps them, or in `data_dir` itself.
        system_dir: another folder to search, where packages of the operating system install the files.
        download: download missing files to `data_dir`; if false, a missing file is an error.
        train_val_test_split: sizes of the three sets, as in other templates. The test set is always the official one,
            so only the second size matters: it is `val_size`.
        options: see `InMemoryDataModule`.

    Raises:
        FileNotFoundError: a file is missing and cannot be downloaded.
        ValueError: a file is damaged, labels are out of range, or the split does not keep the official test set.
    """

    dataset_name = "MNIST"  # name of torchvision's class and folder
    class_names: Sequence[str] | None = [str(digit) for digit in range(10)]

    def __init__(
        self,
        data_dir: str = "data/",
        batch_size: int = 128,
        *,
        system_dir: str | None = None,
        num_classes: int | Mapping[str, int] = 10,
        channels: int = 1,
        image_size: int = 28,
        val_size: int = 5000,
        download: bool = True,
        train_val_test_split: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        if train_val_test_split is not None:
            train_size, val_size, test_size = train_val_test_split
            if (train_size + val_size, test_size) != OFFICIAL_SIZES:
                raise ValueError(
                    f"train_val_test_split={list(train_val_test_split)} would mix training and test images, but the "
                    "test set is the official one of 10,000: set val_size instead, the number of validation images."
                )
        super().__init__(
            num_classes=num_classes,
            channels=channels,
            image_size=image_size,
            batch_size=batch_size,
            val_size=val_size,
            **options,
        )
        self.data_dir, self.download = Path(data_dir), download
        self.folders = [self.data_dir / self.dataset_name / "raw", self.data_dir]
        self.folders += [Path(system_dir)] if system_dir else []

    def prepare_data(self) -> None:
        """Download the files if one is missing. Lightning calls this in one process only."""
        missing = [name for name in FILES if self._find(name) is None]
        if missing:
            folder, files = Path(self.dataset_name, "raw"), [name + ".gz" for name in FILES]
            download(self.dataset_name, self.data_dir, folder, files, missing[0] + ".gz", self.download)

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read and check the four files."""
        arrays = []
        for images_name, labels_name in (FILES[:2], FILES[2:]):
            images_path, labels_path = self._find(images_name), self._find(labels_name)
            if images_path is None or labels_path is None:
                raise FileNotFoundError(f"{self.dataset_name} is not in {self.data_dir}: prepare_data() downloads it.")
            images = torch.from_numpy(read_idx(images_path, num_dims=3)).unsqueeze(1)  # (N, 1, 28, 28)
            labels = torch.from_numpy(read_idx(labels_path, num_dims=1)).long()  # (N,)
            if len(images) != len(labels) or not len(labels):
                raise ValueError(
                    f"{images_path} holds {len(images)} images, but {labels_path} {len(labels)} labels: "
                    "delete them and download them again."
                )
            if labels.max() >= self.num_own_classes:
                raise ValueError(
                    f"{labels_path} holds the label {labels.max()}, but they run from 0 to {self.num_own_classes - 1}."
                )
            arrays += [images, labels]
        return arrays[0], arrays[1], arrays[2], arrays[3]

    def _find(self, name: str) -> Path | None:
        candidates = (folder / (name + suffix) for folder in self.folders for suffix in ("", ".gz"))
        return next((path for path in candidates if path.is_file()), None)


class FashionMNISTDataModule(MNISTDataModule):
    """Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): clothes in MNIST's format and sizes.

    Debian's package `dataset-fashion-mnist` installs the files in /usr/share/datasets/fashion-mnist.
    """

    dataset_name = "FashionMNIST"
    class_names = (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
