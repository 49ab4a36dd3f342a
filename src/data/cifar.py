"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the published Python archives.

The archives are pickles. torchvision reads them with `pickle.load`, which runs any code that a file names; this reader
checks the checksum first and builds only arrays.
"""

import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.download import download
from src.data.in_memory import InMemoryDataModule


class CIFAR10DataModule(InMemoryDataModule):
    """CIFAR-10: 50,000 training and 10,000 test images, 3×32×32, with the official test set.

    Args:
        data_dir: the files are in `<data_dir>/cifar-10-batches-py`, as torchvision keeps them.
        download: download missing files; if false, a missing file is an error.
        options: see `InMemoryDataModule`.

    Raises:
        FileNotFoundError: a file is missing and cannot be downloaded.
        ValueError: the checksum of a file differs from the published one.
    """

    dataset_name = "CIFAR10"  # name of torchvision's class
    folder = "cifar-10-batches-py"
    label_key = "labels"
    # the published files and their MD5 checksums: training files first, the test file last
    files: Sequence[tuple[str, str]] = (
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        ("test_batch", "40351d587109b95175f43aff81a1287e"),
    )
    class_names: Sequence[str] | None = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )

    def __init__(self, data_dir: str, *, download: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.data_dir, self.download = Path(data_dir), download

    def prepare_data(self) -> None:
        """Download the archive if a file is missing. Lightning calls this in one process only."""
        names = [name for name, _ in self.files]
        folder = self.data_dir / self.folder
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            download(self.dataset_name, self.data_dir, Path(self.folder), names, missing[0], self.download)

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Verify and read the files."""
        *train, (test_images, test_labels) = [self._read(name, checksum) for name, checksum in self.files]
        train_images, train_labels = (torch.cat(parts) for parts in zip(*train, strict=True))
        return train_images, train_labels, test_images, test_labels

    def _read(self, name: str, checksum: str) -> tuple[Tensor, Tensor]:
        path = self.data_dir / self.folder / name
        content = path.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != checksum:
            raise ValueError(
                f"{path} is not the published file: the checksum differs; delete it and download it again."
            )
        batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        images = torch.from_numpy(np.array(batch["data"], dtype=np.uint8)).view(-1, 3, 32, 32)
        return images, torch.tensor(batch[self.label_key])


class CIFAR100DataModule(CIFAR10DataModule):
    """CIFAR-100: 100 fine classes, or 20 coarse ones; for the other arguments see `CIFAR10DataModule`.

    Args:
        coarse: serve the 20 superclasses.
        num_classes: 100, or 20 for the coarse classes.

    Raises:
        ValueError: `num_classes` is not the number of classes.
    """

    dataset_name = "CIFAR100"
    folder = "cifar-100-python"
    files = (("train", "16019d7e3df5f24257cddd939b257f8d"), ("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"))
    class_names = None  # they are in the file `meta`, which training does not need

    def __init__(self, *args: Any, num_classes: int, coarse: bool = False, **options: Any) -> None:
        expected = 20 if coarse else 100
        if num_classes != expected:
            raise ValueError(f"num_classes={num_classes} must be {expected} with coarse={str(coarse).lower()}.")
        super().__init__(*args, num_classes=num_classes, **options)
        self.label_key = "coarse_labels" if coarse else "fine_labels"


class ArrayUnpickler(pickle.Unpickler):
    """Unpickle dicts, lists, strings, numbers and NumPy arrays; refuse everything that could run code."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that arrays consist of; raise UnpicklingError for any other."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"The file asks for {module}.{name}, which is refused: arrays do not need it.")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
