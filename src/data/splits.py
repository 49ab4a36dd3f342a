"""Base classes of DataModules: three splits with their loaders; with classes; of images."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import lightning as L
import torch
from torch import Tensor

from src.data.resumable_loader import Resumable, can_pin_memory, check_batch_size


class RunPace(Protocol):
    """The progress of a run whose number of steps changes during training; see `src.models.pace`."""

    def finished_fraction(self, step: int) -> float:
        """Return the fraction of the run that is done after `step` steps."""


class LoadedSplits(L.LightningDataModule, ABC):
    """Serve a training, a validation and a test set of any kind, which `setup` of a subclass creates.

    Args:
        batch_size: samples per batch, over all ranks together.
        pin_memory: copy batches to page-locked memory, for a GPU.

    Raises:
        ValueError: the batch size is invalid.
    """

    pace: RunPace | None = None  # for a run with a time budget, whose number of steps changes during training

    def __init__(self, batch_size: int, pin_memory: bool) -> None:
        super().__init__()
        check_batch_size(batch_size)
        self.batch_size = batch_size
        self.pin_memory = pin_memory and can_pin_memory()
        self.data_train: Any = None
        self.data_val: Any = None
        self.data_test: Any = None

    @abstractmethod
    def input_card(self) -> dict[str, Any]:
        """Describe the inputs and their labels; see `src.models.task.DescribesInputs`."""

    @abstractmethod
    def checksum_of(self, split: Any) -> str:
        """Return the SHA-256 of a split."""

    @abstractmethod
    def make_loader(self, split: Any, train: bool, batch_size: int, rank: int, world_size: int) -> Resumable:
        """Make a loader of batches of `batch_size` samples on this rank."""

    def splits(self) -> dict[str, Any]:
        """Return the splits that `setup` has created, by name."""
        splits = {"train": self.data_train, "val": self.data_val, "test": self.data_test}
        return {name: split for name, split in splits.items() if split is not None}

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of each split."""
        return {name: self.checksum_of(split) for name, split in self.splits().items()}

    def finished_fraction(self, epoch: int) -> float:
        """Return the fraction of the run's steps that are done before an epoch, counted from 0.

        Raises:
            ValueError: the run has no end.
        """
        if (trainer := self.trainer) is None:
            return 0.0
        if trainer.max_epochs == trainer.max_steps == -1:
            raise ValueError(
                "Settings given as a fraction of the run need its length: set trainer.max_epochs or trainer.max_steps."
            )
        if epoch == 0:  # a batch may be needed before training, when the length is unknown
            return 0.0
        steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        if self.pace is not None:
            return self.pace.finished_fraction(epoch * steps_per_epoch)
        return epoch * steps_per_epoch / trainer.estimated_stepping_batches

    def train_dataloader(self) -> Resumable:
        """Return a loader of shuffled and augmented training batches."""
        return self._loader(self.data_train, train=True)

    def val_dataloader(self) -> Resumable:
        """Return a loader of validation batches."""
        return self._loader(self.data_val, train=False)

    def test_dataloader(self) -> Resumable:
        """Return a loader of test batches."""
        return self._loader(self.data_test, train=False)

    def _loader(self, split: Any, train: bool) -> Resumable:
        assert split is not None, "call setup() first"
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if self.batch_size % world_size:
            raise ValueError(f"batch_size={self.batch_size} must be a multiple of the {world_size} processes.")
        return self.make_loader(split, train, self.batch_size // world_size, rank, world_size)


class ClassSplits(LoadedSplits):
    """Serve samples with labels."""

    @abstractmethod
    def heads(self) -> dict[str, list[str]]:
        """Return the class names of each head."""

    @abstractmethod
    def labels_of(self, split: Any) -> Tensor:
        """Return the labels (N,) of a split for the first head."""

    def class_counts(self) -> dict[str, Tensor]:
        """Count the samples of each class (num_classes,) of the first head, in each split that is not empty."""
        num_classes = len(next(iter(self.heads().values())))
        splits = {name: split for name, split in self.splits().items() if len(split)}
        return {name: torch.bincount(self.labels_of(split), minlength=num_classes) for name, split in splits.items()}


class SplitDataModule(ClassSplits):
    """Serve images with labels.

    Args:
        channels: channels of the served images: 3 for RGB, 1 for grey.
        image_size: height and width of the served images.
        batch_size: see `LoadedSplits`.
        pin_memory: see `LoadedSplits`.

    Raises:
        ValueError: the number of channels or the batch size is invalid.
    """

    resize: str  # how an image is resized to `image_size`, see `src.predictor`

    def __init__(self, channels: int, image_size: int, batch_size: int, pin_memory: bool) -> None:
        super().__init__(batch_size, pin_memory)
        if channels not in (1, 3):
            raise ValueError(f"channels={channels} must be 1 (grey) or 3 (RGB).")
        self.channels, self.image_size = channels, image_size
        self.mode = "L" if channels == 1 else "RGB"
        self.mean: Any = None  # mean of the pixels for each channel, in [0, 1]
        self.std: Any = None

    def input_card(self) -> dict[str, Any]:
        """Describe the preprocessing of an image and the class names of each head; see `src.predictor`."""
        assert self.mean is not None and self.std is not None, "call setup() first"
        return {
            "mode": self.mode,
            "resize": self.resize,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "heads": self.heads(),
        }


def check_fractions(**fractions: float) -> None:
    """Raise ValueError unless every fraction, given by name, is between 0 and 1."""
    for name, fraction in fractions.items():
        if not 0 < fraction < 1:
            raise ValueError(f"{name}={fraction} must be between 0 and 1.")


@dataclass(frozen=True)
class Fold:
    """One of `count` equal parts of the training samples: this part is for validation, the others for training."""

    index: int
    count: int

    @classmethod
    def of(cls, fold: int | None, folds: int | None) -> "Fold | None":
        """Return the fold with these numbers; None if `fold` is None.

        Raises:
            ValueError: there is no such fold, or there are fewer than two.
        """
        if folds is not None and folds < 2:
            raise ValueError(f"folds={folds} must be at least 2: one for validation, the others for training.")
        if fold is None:
            return None
        if folds is None or not 0 <= fold < folds:
            allowed = "needs folds, their number" if folds is None else f"must be from 0 to {folds - 1}: folds={folds}"
            raise ValueError(f"fold={fold} {allowed}.")
        return cls(fold, folds)

    def split(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """Split an order (N,) of samples into parts whose sizes differ by at most 1.

        Returns:
            The samples of this fold, and those of all others.

        Raises:
            ValueError: there are fewer samples than folds.
        """
        if self.count > len(order):
            raise ValueError(f"folds={self.count} are more than the {len(order)} samples to train on.")
        parts = list(order.tensor_split(self.count))
        return parts.pop(self.index), torch.cat(parts)

    def refusal(self) -> ValueError:
        """Return the error for data whose validation set is given."""
        return ValueError(
            f"fold={self.index} splits off a validation set, but these data have one of their own: set data.fold=null, "
            "or choose data without one."
        )


def split_missing(
    splits: dict[str, list[Any]], val_fraction: float, test_fraction: float, seed: int, fold: Fold | None = None
) -> None:
    """Split off the test set if there are no splits, only "all", and the validation set if there is none; in place.

    Args:
        splits: samples by name of the split.
        val_fraction: share of the training samples for validation.
        test_fraction: share of all samples for the test.
        seed: seed of both.
        fold: validate on this fold instead of a share.

    Raises:
        ValueError: a fold is given, but there is a validation set already.
    """
    if "all" in splits:
        splits["test"], splits["train"] = split_off(splits.pop("all"), test_fraction, seed)
    if fold is not None:
        if "val" in splits:
            raise fold.refusal()
        samples = splits["train"]
        val, train = (sorted(part.tolist()) for part in fold.split(shuffled(len(samples), seed)))
        splits["val"], splits["train"] = [samples[i] for i in val], [samples[i] for i in train]
    elif "val" not in splits:
        splits["val"], splits["train"] = split_off(splits["train"], val_fraction, seed)


def split_off(samples: list[Any], fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Split a random fraction off a list, at least one sample; both parts keep the order."""
    count = max(round(len(samples) * fraction), 1)
    order = shuffled(len(samples), seed).tolist()
    return [samples[i] for i in sorted(order[:count])], [samples[i] for i in sorted(order[count:])]


def shuffled(count: int, seed: int) -> Tensor:
    """Return a random permutation (count,) of the numbers below `count`, determined by a seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
