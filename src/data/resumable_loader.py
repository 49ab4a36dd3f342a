"""DataLoaders whose epochs can be replayed and resumed."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

log = logging.getLogger(__name__)


def can_pin_memory() -> bool:
    """Return whether there is a GPU, for which batches can be copied to page-locked memory; warn if not."""
    if not torch.cuda.is_available():
        rank_zero_only(log.warning)("data.pin_memory=true has no effect: there is no GPU to copy batches to.")
        return False
    return True


def check_batch_size(batch_size: int, samples: int | None = None, remedy: str = "lower data.batch_size") -> None:
    """Raise ValueError for a batch size below 1 or above the number of samples; the message suggests `remedy`.

    Without `samples`, batches may be incomplete.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")
    if samples is not None and batch_size > samples:
        raise ValueError(f"batch_size={batch_size} is larger than the {samples} samples to train on: {remedy}.")


class Resumable:
    """Save and restore the position of a loader within an epoch; see `KeepsPosition`."""

    sampler: Any
    batches, resumed = 0, (-1, 0)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches served."""
        return {"epoch": self.sampler.epoch, "batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Resume at this position if the next iteration is in the same epoch."""
        self.resumed = (state_dict["epoch"], state_dict["batches"])

    def begin(self) -> int:
        """Start an iteration and return the index of its first batch."""
        epoch, batches = self.resumed
        self.batches, self.resumed = batches if epoch == self.sampler.epoch else 0, (-1, 0)
        return self.batches


def draw(
    count: int, shuffle: bool, seed: int, epoch: int, seeds_shape: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the order of `count` samples and random seeds, determined by seed and epoch."""
    # the generator keeps the lower 32 bits of a seed
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**32)
    order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
    return order, torch.randint(2**32, seeds_shape, generator=generator)


class SeededSampler(DistributedSampler[Any]):  # so that Lightning does not replace it
    """Yield (index, seed) for each sample of this rank, determined by `seed` and the epoch.

    Every sample is seen once in an epoch, except for the remainder that `drop_last` drops so that all ranks have the
    same number.

    Args:
        count: number of samples.
        shuffle: draw a new order for every epoch.
        drop_last: drop the remainder.
        seed: seed of the order and of the samples' seeds.
        rank: rank of this process.
        world_size: number of processes.
        has_seeds: returns whether the samples of an epoch have seeds, for augmentation; otherwise they are None.
    """

    def __init__(
        self,
        count: int,
        shuffle: bool,
        drop_last: bool,
        seed: int,
        rank: int,
        world_size: int,
        has_seeds: Callable[[int], bool] = lambda epoch: True,
    ) -> None:
        self.count, self.shuffle, self.drop_last, self.seed = count, shuffle, drop_last, seed
        self.rank, self.num_replicas, self.has_seeds = rank, world_size, has_seeds
        self.epoch, self.start = 0, 0  # the next iteration skips `start` samples

    def __len__(self) -> int:
        return (
            self.count // self.num_replicas if self.drop_last else len(range(self.rank, self.count, self.num_replicas))
        )

    def __iter__(self) -> Iterator[tuple[int, int | None]]:
        order, seeds = draw(self.count, self.shuffle, self.seed, self.epoch, (self.count,))
        given = seeds.tolist() if self.has_seeds(self.epoch) else [None] * self.count
        samples = list(zip(order.tolist(), given, strict=True))[self.rank :: self.num_replicas]
        return iter(samples[self.start : len(self)])


class ResumableLoader(Resumable, DataLoader[Any]):
    """A DataLoader over a `SeededSampler` that can resume within an epoch."""

    sampler: SeededSampler

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator, so that it starts after `set_epoch`
        assert self.batch_size is not None
        self.sampler.start = self.begin() * self.batch_size
        for batch in super().__iter__():
            self.batches += 1
            yield batch
