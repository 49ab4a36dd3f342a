"""Batches of what does not fit in memory, in an order that can be replayed and gone on with."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

log = logging.getLogger(__name__)


def can_pin_memory() -> bool:
    """Whether batches can be copied to page-locked memory, which takes a GPU; warn where there is none."""
    if not torch.cuda.is_available():
        rank_zero_only(log.warning)("data.pin_memory=true has no effect: there is no GPU to copy batches to.")
        return False
    return True


def check_batch_size(batch_size: int, samples: int | None = None, remedy: str = "lower data.batch_size") -> None:
    """Check that batches hold a sample at least, and that there are enough samples to fill one.

    Args:
        batch_size: samples per batch.
        samples: how many there are; None: a batch may be smaller.
        remedy: what to do where they are too few.

    Raises:
        ValueError: neither.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")
    if samples is not None and batch_size > samples:
        raise ValueError(f"batch_size={batch_size} is larger than the {samples} samples to train on: {remedy}.")


class Resumable:
    """How far a loader has come in an epoch, for checkpoints; it goes on there if `sampler.epoch` is still the same."""

    sampler: Any
    batches, resumed = 0, (-1, 0)

    def state_dict(self) -> dict[str, int]:
        """How far the present iteration has come."""
        return {"epoch": self.sampler.epoch, "batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iteration, if it is of the same epoch, begin where the one of the state had come to."""
        self.resumed = (state_dict["epoch"], state_dict["batches"])

    def begin(self) -> int:
        """The number of the batch that an iteration begins with."""
        epoch, batches = self.resumed
        self.batches, self.resumed = batches if epoch == self.sampler.epoch else 0, (-1, 0)
        return self.batches


def draw(
    count: int, shuffle: bool, seed: int, epoch: int, seeds_shape: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The order of `count` samples in an epoch, and seeds for what is drawn in it; both follow from seed and epoch."""
    # the generator keeps the lower 32 bits of a seed
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**32)
    order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
    return order, torch.randint(2**32, seeds_shape, generator=generator)


class SeededSampler(DistributedSampler[Any]):  # by this Lightning knows that processes share the data already
    """Yields (index, seed) for each sample of this process; both follow from `seed` and the epoch alone.

    Every sample is seen once in an epoch, but for the remainder that `drop_last` leaves out so that all processes have
    as many.

    Args:
        count: of samples.
        shuffle: draw a new order for every epoch.
        drop_last: leave out the remainder.
        seed: of the order, and of what is drawn for each sample.
        rank: number of this process.
        world_size: how many processes share the data.
    """

    def __init__(self, count: int, shuffle: bool, drop_last: bool, seed: int, rank: int, world_size: int) -> None:
        self.count, self.shuffle, self.drop_last, self.seed = count, shuffle, drop_last, seed
        self.rank, self.num_replicas = rank, world_size
        self.epoch, self.start = 0, 0  # `start` leaves out the first samples of an iteration

    def __len__(self) -> int:
        return (
            self.count // self.num_replicas if self.drop_last else len(range(self.rank, self.count, self.num_replicas))
        )

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order, seeds = draw(self.count, self.shuffle, self.seed, self.epoch, (self.count,))
        places = list(zip(order.tolist(), seeds.tolist(), strict=True))[self.rank :: self.num_replicas]
        return iter(places[self.start : len(self)])


class ResumableLoader(Resumable, DataLoader[Any]):
    """A DataLoader over a `SeededSampler` that can tell how far it has come in an epoch, and go on there."""

    sampler: SeededSampler

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator: it begins once the epoch is set
        assert self.batch_size is not None
        self.sampler.start = self.begin() * self.batch_size
        for batch in super().__iter__():
            self.batches += 1
            yield batch
