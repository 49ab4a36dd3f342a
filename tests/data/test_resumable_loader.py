"""Samples read from disk have an order that can be replayed, shared between processes and resumed."""

import pytest
import torch
from torch.utils.data import Dataset

from src.data.resumable_loader import ResumableLoader, SeededSampler


class Places(Dataset[tuple[int, int]]):
    """Serves the requested index and seed."""

    def __getitem__(self, place: tuple[int, int]) -> tuple[int, int]:
        return place

    def __len__(self) -> int:
        return 23


def loader(rank: int = 0, world_size: int = 1, train: bool = True, workers: int = 0) -> ResumableLoader:
    sampler = SeededSampler(23, train, train, 5, rank, world_size)
    return ResumableLoader(
        Places(), 4, sampler=sampler, drop_last=train, num_workers=workers, persistent_workers=workers > 0
    )


def epoch(loader: ResumableLoader, number: int) -> list[tuple[list[int], list[int]]]:
    loader.sampler.set_epoch(number)
    return [(indices.tolist(), seeds.tolist()) for indices, seeds in loader]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_sample_is_seen_once_by_all_processes_together(world_size: int) -> None:
    for train in (True, False):
        parts = [SeededSampler(23, train, train, 5, rank, world_size) for rank in range(world_size)]
        seen = [index for part in parts for index, _ in part]
        assert len(seen) == len(set(seen)) == sum(map(len, parts)) == (23 // world_size * world_size if train else 23)
        assert not train or len({len(part) for part in parts}) == 1


def test_epochs_differ_and_each_can_be_replayed() -> None:
    first = loader()
    zeroth, second = epoch(first, 0), epoch(first, 2)
    assert len(zeroth) == len(first) == 5 and zeroth != second
    assert epoch(loader(), 2) == second
    places = {index: seed for indices, seeds in zeroth for index, seed in zip(indices, seeds, strict=True)}
    again = {index: seed for indices, seeds in second for index, seed in zip(indices, seeds, strict=True)}
    assert all(again[index] != seed for index, seed in places.items() if index in again)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_is_gone_on_with_where_it_was_left(workers: int) -> None:
    whole = epoch(loader(), 3)
    broken = loader(workers=workers)
    broken.sampler.set_epoch(3)
    batches = iter(broken)
    begun = [next(batches) for _ in range(2)]
    assert [indices.tolist() for indices, _ in begun] == [indices for indices, _ in whole[:2]]
    resumed = loader(workers=workers)
    resumed.load_state_dict(broken.state_dict())
    assert epoch(resumed, 3) == whole[2:]
    assert epoch(resumed, 4) == epoch(loader(), 4)  # the next one is whole
    resumed.load_state_dict(broken.state_dict())
    assert epoch(resumed, 4) == epoch(loader(), 4)  # as is one that is not the one of the state


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    sampler = SeededSampler(23, True, True, 5, 0, 1)
    assert list(sampler) and torch.equal(torch.get_rng_state(), state)
