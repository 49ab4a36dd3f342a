"""Batches of one in-memory tensor: one index, one cast, one augmentation, one normalisation each."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from src.data.augmentation import Augmentation
from src.data.image_sequences import ImageSequences
from src.data.resumable_loader import Resumable, check_batch_size, draw


class InMemoryLoader(Resumable):
    """Iterate over (images, targets) batches; a drop-in for a DataLoader whose data fits in memory.

    Order and augmentation depend on `seed` and the epoch alone, never on the global random state, so that an epoch can
    be replayed. Ranks share the samples: each is seen once (with `drop_last`, all but the remainder), and all ranks
    make the same number of steps.

    Args:
        images: uint8 (N, C, H, W).
        targets: (N, …), such as int64 labels (N,) or (N, heads), or masks (N, H, W).
        batch_size: samples per batch and rank.
        mean: of the pixels, for each channel, in [0, 1].
        std: likewise.
        shuffle: draw a new order for every epoch.
        drop_last: drop an incomplete last batch.
        augmentation: applied to raw images and their targets, before normalisation.
        sequences: turns normalised images into what is served instead of them.
        seed: of the order and the augmentation.
        pin_memory: copy batches to page-locked memory, for a GPU.
        rank: of this process.
        world_size: number of processes.

    Raises:
        ValueError: the batch size is below 1 or larger than the share of a rank.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        augmentation: Augmentation | None = None,
        sequences: ImageSequences | None = None,
        seed: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        share = len(images) // world_size
        if 0 < len(images) < world_size:
            raise ValueError(f"{len(images)} samples cannot be shared by {world_size} processes.")
        remedy = "lower data.batch_size, or set data.drop_last=false"
        check_batch_size(batch_size, share if drop_last else None, remedy)
        self.images, self.targets = images, targets
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.augmentation, self.sequences, self.seed, self.pin_memory = augmentation, sequences, seed, pin_memory
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        std_ = torch.tensor(std).view(-1, 1, 1)
        self._scale = 1 / (255 * std_)  # (C, 1, 1)
        self._shift = -torch.tensor(mean).view(-1, 1, 1) / std_  # (C, 1, 1)

    batch_sampler = None  # Lightning asks for both

    @property
    def sampler(self) -> "InMemoryLoader":
        """Itself, because Lightning calls `sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; Lightning calls it."""
        self.epoch = epoch

    def batch_seeds(self) -> list[int]:
        """The augmentation seed of each batch of this rank in the epoch."""
        return self._draw()[1]

    def __len__(self) -> int:
        smallest_share = len(self.images) // self.world_size
        return smallest_share // self.batch_size if self.drop_last else math.ceil(smallest_share / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, seeds = self._draw()
        generator = torch.Generator()
        batches = order.split(self.batch_size)
        if not self.drop_last and len(batches) > len(seeds) > 0:
            batches = order.tensor_split(len(seeds))  # a sample more than other ranks, in as many steps
        for indices, seed in list(zip(batches, seeds, strict=False))[self.begin() :]:  # `drop_last`: one has no seed
            images = self.images.index_select(0, indices)  # (B, C, H, W); `[indices]` copies pixel by pixel
            targets = self.targets.index_select(0, indices)  # (B, …)
            if self.augmentation is not None:
                images, targets = self.augmentation(images, targets, generator.manual_seed(seed))
            images = images.float().mul_(self._scale).add_(self._shift)
            if self.sequences is not None:
                images = self.sequences(images)  # (B, T, F)
            self.batches += 1
            yield (images.pin_memory(), targets.pin_memory()) if self.pin_memory else (images, targets)

    def _draw(self) -> tuple[Tensor, list[int]]:
        """The indices of this rank in the epoch's order, and a seed for each batch."""
        order, seeds = draw(len(self.images), self.shuffle, self.seed, self.epoch, (len(self), self.world_size))
        return order[self.rank :: self.world_size], seeds[:, self.rank].tolist()
