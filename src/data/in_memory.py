"""Base class of the DataModules whose data fit in memory: split, resize, normalise, serve batches."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from src.data.attributes import AttributeLabels
from src.data.augmentation import Augmentation, BatchAugmentation, check_augmentation
from src.data.batches import InMemoryLoader
from src.data.class_balance import UNBALANCED, warn_of_imbalance
from src.data.image_schedule import ImageSchedule
from src.data.image_sequences import ImageSequences
from src.data.random_operations import GREY
from src.data.splits import Fold, SplitDataModule, shuffled
from src.system.wording import counted

log = logging.getLogger(__name__)


class InMemoryDataModule(SplitDataModule):
    """Keep a data set as uint8 tensors and serve it in batches. A subclass implements `load`.

    Args:
        num_classes: labels run from 0 to `num_classes - 1`. Or the number of classes by head: the first head is the
            data set's own label, the others are attributes of `src.data.attributes`.
        channels: channels of the served images: grey is repeated to 3, RGB is averaged (ITU-R 601) to 1.
        image_size: height and width of the served images: smaller images get a black border, larger ones are resized.
        batch_size: samples per batch, over all ranks together.
        val_size: validation samples, split from the training set by `split_seed`.
        fold: validate on this one of `folds` equal parts of the training set instead, which `split_seed` determines.
        folds: number of parts for cross-validation.
        held_out: classes that are left out of training and validation, so that only the test data have them.
        augmentation: called with raw images (B, C, H, W), targets (B, …) and a generator; returns images and targets.
            See `src.data.augmentation`.
        augment_until, sizes, alternating_flip: see `ImageSchedule`.
        mean: mean of the pixels for each channel, in [0, 1]; by default measured on the training set.
        std: standard deviation of the pixels for each channel, in [0, 1].
        length: serve images as sequences of this many steps; None: as images.
        features: values of a step; with `length`.
        permutation_seed: seed of an order of the steps; see `ImageSequences`.
        shuffle: draw a new order of the training set for every epoch.
        drop_last: drop an incomplete last training batch.
        num_workers: has no effect, because batches come from memory; accepted because other DataModules have it.
        pin_memory: copy batches to page-locked memory, for a GPU.
        seed: seed of the order and the augmentation of training batches.
        split_seed: seed of the validation split; independent of `seed`, so that all seeds validate on the same images.

    Raises:
        ValueError: a value is out of its range, or the augmentation takes other arguments.
    """

    resize = "pad_or_stretch"
    data_train: TensorDataset | None
    data_val: TensorDataset | None
    data_test: TensorDataset | None
    class_names: Sequence[str] | None = None
    val_first = False  # whether the first `val_size` training samples of `load` are the validation set
    max_imbalance: float = UNBALANCED  # ratio of the largest class to the smallest from which to warn

    def __init__(
        self,
        *,
        num_classes: int | Mapping[str, int],
        channels: int,
        image_size: int,
        batch_size: int,
        val_size: int = 0,
        fold: int | None = None,
        folds: int | None = None,
        held_out: Sequence[int] = (),
        augmentation: Augmentation | None = None,
        augment_until: float = 1.0,
        sizes: Sequence[int] | None = None,
        alternating_flip: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        length: int | None = None,
        features: int | None = None,
        permutation_seed: int | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__(channels, image_size, batch_size, pin_memory)
        check_augmentation(augmentation)
        self.fold = Fold.of(fold, folds)
        if self.fold and self.val_first:
            raise self.fold.refusal()
        if num_classes is None:
            raise ValueError("num_classes=null gives no number of classes: set it, or leave it out.")
        if min(num_classes.values() if isinstance(num_classes, Mapping) else [num_classes]) < 1:
            raise ValueError(f"num_classes={num_classes} must be at least 1.")
        self.num_classes = num_classes
        if not set(held_out) <= set(range(self.num_own_classes)):
            raise ValueError(
                f"held_out={list(held_out)} must list classes, which run from 0 to {self.num_own_classes - 1}."
            )
        if (mean is None) != (std is None):
            raise ValueError(f"mean={mean} and std={std} must both be given, or neither.")
        if mean is not None and std is not None and not len(mean) == len(std) == channels:
            raise ValueError(f"mean={mean} and std={std} must have a value for each of channels={channels}.")
        if num_workers:
            log.warning("data.num_workers=%d has no effect: batches are cut from memory.", num_workers)
        if (length is None) != (features is None):
            raise ValueError(f"length={length} and features={features} must both be given, or neither.")
        self.sequences = (
            ImageSequences(length, features, channels, image_size, permutation_seed)
            if length is not None and features is not None
            else None
        )
        self.schedule = ImageSchedule(augment_until, sizes, alternating_flip, self.finished_fraction)
        if alternating_flip and isinstance(augmentation, BatchAugmentation) and augmentation.horizontal_flip:
            raise ValueError("alternating_flip=true replaces random flips: set data.augmentation.horizontal_flip=0.")
        if sizes is not None and self.sequences:
            raise ValueError(
                f"sizes={list(sizes)} resizes images, but they are served as sequences: set data.sizes=null."
            )
        self.val_size, self.held_out = val_size, list(held_out)
        self.shuffle, self.drop_last = shuffle, drop_last
        self.augmentation, self.mean, self.std = augmentation, mean, std
        self.seed, self.split_seed = seed, split_seed

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return train images, train labels, test images, test labels: uint8 (N, C, H, W) and int64 (N, …)."""
        raise NotImplementedError(f"{type(self).__name__} must implement `load`.")

    def setup(self, stage: str | None = None) -> None:
        """Load the data, split off the validation set, and measure the mean and std of the training set."""
        if self.data_train is not None:
            return
        train_images, train_labels, test_images, test_labels = self.load()
        for labels in (train_labels, test_labels):
            self.check_labels(labels)
        count = len(train_images)
        order = torch.arange(count) if self.val_first else shuffled(count, self.split_seed)
        own_labels = train_labels.view(count, -1)[:, 0]
        order = order[~torch.isin(own_labels[order], torch.tensor(self.held_out, dtype=torch.long))]
        val, train = (part.sort().values for part in self._split(order))
        if isinstance(self.num_classes, Mapping):
            _, *attributes = self.num_classes
            measured = AttributeLabels({name: self.num_classes[name] for name in attributes}, train_images[train])
            train_labels = torch.cat([train_labels[:, None], measured(train_images)], dim=1)  # (N, heads)
            test_labels = torch.cat([test_labels[:, None], measured(test_images)], dim=1)
        train_images, test_images = self._fit(train_images), self._fit(test_images)
        train_labels, test_labels = self.fit_targets(train_labels), self.fit_targets(test_labels)
        self.data_train = TensorDataset(train_images[train], train_labels[train])
        self.data_val = TensorDataset(train_images[val], train_labels[val])
        self.data_test = TensorDataset(test_images, test_labels)
        if self.mean is None or self.std is None:
            self.mean, self.std = channel_statistics(self.data_train.tensors[0])
        kept = [label for label in range(self.num_own_classes) if label not in self.held_out]
        counts = {split: images[kept] for split, images in self.class_counts().items()}
        warn_of_imbalance(counts, [self.own_class_names[label] for label in kept], limit=self.max_imbalance)

    def _split(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """Return the validation and the training images in an order (N,) of all that are not held out."""
        if self.fold and not self.val_first:  # else `load` has split off the fold
            return self.fold.split(order)
        if not 0 <= self.val_size < len(order):
            raise ValueError(f"val_size={self.val_size} must be less than the {len(order)} training images.")
        return order[: self.val_size], order[self.val_size :]

    def check_labels(self, labels: Tensor) -> None:
        """Raise ValueError if a label (N, …) is not a class."""
        count = self.num_own_classes
        if labels.min() < 0 or labels.max() >= count:
            raise ValueError(
                f"The labels run from {labels.min()} to {labels.max()}, "
                f"but those of {counted(count, 'class', 'classes')} run from 0 to {count - 1}."
            )

    def fit_targets(self, targets: Tensor) -> Tensor:
        """Convert the targets (N, …) to the served size; labels are unchanged."""
        return targets

    def trains_below_full_size(self, epoch: int) -> bool:
        """Return whether the training images of an epoch, counted from 0, are smaller than those of later ones."""
        return self.schedule.is_below_full_size(epoch)

    def input_card(self) -> dict[str, Any]:
        """Describe the images, or the sequences that they are served as, and the class names of each head."""
        card = super().input_card()
        return self.sequences.input_card(card) if self.sequences else card

    def heads(self) -> dict[str, list[str]]:
        """Return the class names of each head, or their numbers."""
        counts = dict(self.num_classes) if isinstance(self.num_classes, Mapping) else {"class": self.num_classes}
        names = {head: [str(label) for label in range(count)] for head, count in counts.items()}
        return {**names, next(iter(names)): self.own_class_names}

    def labels_of(self, split: TensorDataset) -> Tensor:
        """Return the data set's own labels (N,) of a split."""
        return split.tensors[1].view(len(split), -1)[:, 0]

    def checksum_of(self, split: TensorDataset) -> str:
        """Return the SHA-256 of the images and targets of a split."""
        digest = hashlib.sha256()
        for tensor in split.tensors:
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def num_own_classes(self) -> int:
        """Number of classes of the data set's own label, the first head."""
        return next(iter(self.num_classes.values())) if isinstance(self.num_classes, Mapping) else self.num_classes

    @property
    def own_class_names(self) -> list[str]:
        """Names of the classes of the data set's own label, or their numbers."""
        names = list(self.class_names or ())
        return names + [str(label) for label in range(len(names), self.num_own_classes)]

    def _fit(self, images: Tensor) -> Tensor:
        """Convert images (N, C, H, W) to the served channels and size."""
        if images.shape[1] == 1 and self.channels == 3:
            images = images.expand(-1, 3, -1, -1)
        elif images.shape[1] == 3 and self.channels == 1:
            weights = torch.tensor(GREY).view(1, 3, 1, 1)
            images = torch.cat([(part * weights).sum(1, keepdim=True).round().byte() for part in images.split(4096)])
        return self.fit_size(images, "bilinear", 0)

    def fit_size(self, images: Tensor, mode: str, fill: int) -> Tensor:
        """Pad smaller images (N, C, H, W) with a border of `fill`, or resize larger ones by interpolation."""
        height, width = images.shape[2:]
        if (height, width) == (self.image_size, self.image_size):
            return images
        if max(height, width) <= self.image_size:
            top, left = (self.image_size - height) // 2, (self.image_size - width) // 2
            bottom, right = self.image_size - height - top, self.image_size - width - left
            return F.pad(images, (left, right, top, bottom), value=fill)
        size, antialias = (self.image_size, self.image_size), mode == "bilinear"
        return torch.cat([F.interpolate(part, size, mode=mode, antialias=antialias) for part in images.split(4096)])

    def make_loader(
        self, split: TensorDataset, train: bool, batch_size: int, rank: int, world_size: int
    ) -> InMemoryLoader:
        """Make a loader of a split; only the training set is shuffled and augmented."""
        assert self.mean is not None and self.std is not None, "call setup() first"
        images, targets = split.tensors
        return InMemoryLoader(
            images,
            targets,
            batch_size=batch_size,
            mean=self.mean,
            std=self.std,
            shuffle=train and self.shuffle,
            drop_last=train and self.drop_last,
            augmentation=self.augmentation if train else None,
            schedule=self.schedule if train else None,
            sequences=self.sequences,
            seed=self.seed,
            pin_memory=self.pin_memory,
            rank=rank,
            world_size=world_size,
        )


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel of uint8 images (N, C, H, W), scaled to [0, 1]."""
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in images.split(4096):  # a float copy of the whole set would take 4 times its memory
        values = part.float()
        total += values.sum(dim=(0, 2, 3), dtype=torch.float64)
        squares += values.square_().sum(dim=(0, 2, 3), dtype=torch.float64)
    count = images.numel() / images.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-12).sqrt()
    return (mean / 255).tolist(), (std / 255).tolist()
