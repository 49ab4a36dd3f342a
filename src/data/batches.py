"""Batches of in-memory tensors: one index each; for images also one cast, one augmentation, one normalisation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from src.data.augmentation import Augmentation
from src.data.image_schedule import ImageSchedule
from src.data.image_sequences import ImageSequences
from src.data.resumable_loader import Resumable, check_batch_size, draw


class SampleLoader(Resumable, ABC):
    """Iterate over (inputs, targets) batches of samples in memory; a drop-in replacement for a DataLoader.

    The order depends only on `seed` and the epoch, not on the global random state, so that an epoch can be replayed.
    Ranks share the samples: each is seen once (with `drop_last`, all but the remainder), and all ranks make the same
    number of steps.

    Args:
        count: number of samples.
        batch_size: samples per batch and rank.
        shuffle: draw a new order for every epoch.
        drop_last: drop an incomplete last batch.
        seed: seed of the order.
        pin_memory: copy batches to page-locked memory, for a GPU.
        rank: rank of this process.
        world_size: number of processes.

    Raises:
        ValueError: the batch size is below 1 or larger than the share of a rank.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.share = count // world_size  # the smallest share of a rank
        if 0 < count < world_size:
            raise ValueError(f"{count} samples cannot be shared by {world_size} processes.")
        remedy = "lower data.batch_size, or set data.drop_last=false"
        check_batch_size(batch_size, self.share if drop_last else None, remedy)
        self.count, self.batch_size, self.shuffle, self.drop_last = count, batch_size, shuffle, drop_last
        self.seed, self.pin_memory, self.rank, self.world_size = seed, pin_memory, rank, world_size
        self.epoch = 0

    batch_sampler = None  # Lightning asks for both

    @property
    def sampler(self) -> "SampleLoader":
        """Itself, because Lightning calls `sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; Lightning calls it."""
        self.epoch = epoch

    @abstractmethod
    def epoch_batches(self) -> Sequence[tuple[Tensor, int]]:
        """Return the indices (B,) of each batch of this rank in the epoch, and a seed for it."""

    @abstractmethod
    def make_batch(self, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets (B, …) at some indices (B,)."""

    def __len__(self) -> int:
        return self.share // self.batch_size if self.drop_last else math.ceil(self.share / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for indices, seed in self.epoch_batches()[self.begin() :]:
            inputs, targets = self.make_batch(indices, seed)
            self.batches += 1
            yield (inputs.pin_memory(), targets.pin_memory()) if self.pin_memory else (inputs, targets)


class TensorLoader(SampleLoader):
    """Iterate over batches of two tensors.

    Args:
        inputs: (N, …).
        targets: (N, …).
        batch_size: see `SampleLoader`.
        options: see `SampleLoader`.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, batch_size: int, **options: Any) -> None:
        super().__init__(len(inputs), batch_size, **options)
        self.inputs, self.targets = inputs, targets

    def batch_seeds(self) -> list[int]:
        """Return the seed of each batch of this rank in the epoch, for random draws other than the order."""
        return self._draw()[1]

    def make_batch(self, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets (B, …) at some indices (B,)."""
        # faster than `[indices]`, which copies number by number
        return self.inputs.index_select(0, indices), self.targets.index_select(0, indices)

    def epoch_batches(self) -> Sequence[tuple[Tensor, int]]:
        """Return the indices (B,) of each batch of this rank in the epoch, and a seed for it."""
        order, seeds = self._draw()
        batches = order.split(self.batch_size)
        if not self.drop_last and len(batches) > len(seeds) > 0:
            batches = order.tensor_split(len(seeds))  # a sample more than other ranks, in as many steps
        return list(zip(batches, seeds, strict=False))  # with `drop_last`, the incomplete batch has no seed

    def _draw(self) -> tuple[Tensor, list[int]]:
        """Return the indices of this rank in the epoch's order, and a seed for each batch."""
        order, seeds = draw(self.count, self.shuffle, self.seed, self.epoch, (len(self), self.world_size))
        return order[self.rank :: self.world_size], seeds[:, self.rank].tolist()


class InMemoryLoader(TensorLoader):
    """Iterate over (images, targets) batches that are augmented and normalised.

    Like the order, the augmentation depends only on `seed` and the epoch.

    Args:
        images: uint8 (N, C, H, W).
        targets: (N, …), such as int64 labels (N,) or (N, heads), or masks (N, H, W).
        batch_size: see `TensorLoader`.
        mean: mean of the pixels, for each channel, in [0, 1].
        std: standard deviation of the pixels, for each channel, in [0, 1].
        augmentation: applied to raw images and their targets, before normalisation.
        schedule: changes during the run; none by default.
        sequences: converts normalised images to the sequences that are served instead.
        options: see `TensorLoader`.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        augmentation: Augmentation | None = None,
        schedule: ImageSchedule | None = None,
        sequences: ImageSequences | None = None,
        **options: Any,
    ) -> None:
        super().__init__(images, targets, batch_size, **options)
        self.augmentation, self.sequences = augmentation, sequences
        self.schedule = schedule or ImageSchedule()
        if self.schedule.alternating_flip:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 - 1) % 2**32)  # epochs use the next seeds
            self._first_flipped = torch.rand(self.count, generator=generator) < 0.5  # (N,)
        std_ = torch.tensor(std).view(-1, 1, 1)
        self._scale = 1 / (255 * std_)  # (C, 1, 1)
        self._shift = -torch.tensor(mean).view(-1, 1, 1) / std_  # (C, 1, 1)

    def make_batch(self, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return normalised images (B, C, H, W), or their sequences, and targets (B, …), augmented with a seed."""
        images, targets = super().make_batch(indices, seed)
        if self.schedule.augments(self.epoch):
            if self.schedule.alternating_flip:
                images, targets = self.schedule.flipped(images, targets, indices, self._first_flipped, self.epoch)
            if self.augmentation is not None:
                images, targets = self.augmentation(images, targets, torch.Generator().manual_seed(seed))
        images, targets = self.schedule.resized(images, targets, self.epoch)
        images = images.float().mul_(self._scale).add_(self._shift)
        return images if self.sequences is None else self.sequences(images), targets
