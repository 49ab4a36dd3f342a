"""Batches from memory: every sample once, in an order that depends only on the seed and the epoch."""

import random
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from src.data.batches import InMemoryLoader


def loader(count: int = 23, batch_size: int = 4, **options: Any) -> InMemoryLoader:
    """Batches of `count` samples; sample i has the label i and pixels of the value i."""
    labels = torch.arange(count)
    images = labels.byte().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return InMemoryLoader(images, labels, batch_size, mean=[0.0], std=[1 / 255], **options)  # serves pixels as they are


def epoch_of(batches: InMemoryLoader, epoch: int = 0) -> list[int]:
    """Return the labels of an epoch in the order in which they are served."""
    batches.set_epoch(epoch)
    return [label for _, labels in batches for label in labels.tolist()]


def noise(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment by replacing the images with random draws, to make the draws visible."""
    return torch.randint(256, images.shape, generator=generator, dtype=torch.uint8), targets


def augmented(batches: InMemoryLoader, epoch: int = 0) -> Tensor:
    batches.set_epoch(epoch)
    return torch.cat([images for images, _ in batches])


# ---- an epoch


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 23, 50])
def test_an_epoch_serves_each_sample_once_and_with_its_own_label(shuffle: bool, batch_size: int) -> None:
    batches = list(loader(23, batch_size, shuffle=shuffle))
    labels = torch.cat([labels for _, labels in batches])
    images = torch.cat([images for images, _ in batches])
    assert sorted(labels.tolist()) == list(range(23))
    torch.testing.assert_close(images, labels.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).float())


def test_samples_come_in_their_own_order_unless_they_are_shuffled() -> None:
    assert epoch_of(loader(shuffle=False)) == list(range(23))
    assert epoch_of(loader(shuffle=True)) != list(range(23))


@pytest.mark.parametrize(
    ("count", "batch_size", "drop_last", "sizes"),
    [(23, 4, False, [4] * 5 + [3]), (23, 4, True, [4] * 5), (24, 4, True, [4] * 6), (24, 4, False, [4] * 6)],
)
def test_drop_last_leaves_out_a_smaller_batch_and_nothing_else(
    count: int, batch_size: int, drop_last: bool, sizes: list[int]
) -> None:
    batches = loader(count, batch_size, drop_last=drop_last, shuffle=True)
    assert [len(labels) for _, labels in batches] == sizes
    assert len(batches) == len(sizes)


def test_every_epoch_and_every_seed_has_its_own_order() -> None:
    orders = [epoch_of(loader(shuffle=True, seed=seed), epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert len(set(map(tuple, orders))) == len(orders)


def test_an_epoch_follows_from_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    running = loader(shuffle=True, seed=7, augmentation=noise)
    for epoch in range(3):
        expected = epoch_of(running, epoch), augmented(running, epoch)
    torch.manual_seed(2)  # another global state, and no epochs before
    replayed = loader(shuffle=True, seed=7, augmentation=noise)
    assert epoch_of(replayed, 2) == expected[0]
    assert torch.equal(augmented(replayed, 2), expected[1])


def test_iterating_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state(), random.getstate()
    list(loader(shuffle=True, augmentation=noise))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_large_seed_is_as_good_as_a_small_one() -> None:
    assert epoch_of(loader(shuffle=True, seed=2**63)) != epoch_of(loader(shuffle=True, seed=2**63 + 1))


# ---- what a batch holds


def test_pixels_are_normalised_for_each_channel() -> None:
    images = torch.tensor([51, 255], dtype=torch.uint8).view(1, 2, 1, 1)  # 0.2 and 1.0
    batches = InMemoryLoader(images, torch.tensor([3]), 1, mean=[0.1, 0.5], std=[0.5, 0.25])
    ((served, labels),) = batches
    torch.testing.assert_close(served, torch.tensor([0.2, 2.0]).view(1, 2, 1, 1))
    assert served.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.flatten().tolist() == [51, 255]  # the data set itself is left as it is


def test_the_augmentation_sees_raw_pixels() -> None:
    seen = []

    def look(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.append(images)
        return 255 - images, targets

    ((served, _),) = loader(3, 3, augmentation=look)
    assert seen[0].dtype == torch.uint8
    assert served[:, 0, 0, 0].tolist() == pytest.approx([255, 254, 253])


def test_every_batch_and_every_epoch_has_its_own_draws() -> None:
    batches = loader(8, 4, augmentation=noise)
    first, second = augmented(batches, 0).split(4)
    assert not torch.equal(first, second)
    assert not torch.equal(first, augmented(batches, 1)[:4])


# ---- several processes


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("count", [22, 23, 24, 25])
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_every_sample_exactly_once_in_as_many_steps(world_size: int, count: int, shuffle: bool) -> None:
    ranks = [loader(count, 4, shuffle=shuffle, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(label for rank in ranks for label in epoch_of(rank, 5)) == list(range(count))
    # a process with fewer steps would leave the others waiting forever
    assert {len(list(rank)) for rank in ranks} == {len(rank) for rank in ranks}
    assert len({len(rank) for rank in ranks}) == 1


@pytest.mark.parametrize("count", [22, 23, 24, 25])
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_that_drop_the_last_batch_make_as_many_full_steps(world_size: int, count: int) -> None:
    options = {"shuffle": True, "drop_last": True, "world_size": world_size}
    ranks = [loader(count, 4, rank=rank, **options) for rank in range(world_size)]
    sizes = [[len(labels) for _, labels in rank] for rank in ranks]
    assert sizes == [[4] * (count // world_size // 4)] * world_size
    labels = [label for rank in ranks for label in epoch_of(rank)]
    assert len(set(labels)) == len(labels)


def test_processes_draw_differently() -> None:
    zero, one = (augmented(loader(24, augmentation=noise, rank=rank, world_size=2)) for rank in (0, 1))
    assert not torch.equal(zero[:4], one[:4])


def test_no_process_gets_an_empty_batch_at_batch_size_1() -> None:
    assert all(len(labels) for rank in (0, 1) for _, labels in loader(5, 1, rank=rank, world_size=2))


# ---- within Lightning


def test_the_trainer_chooses_a_new_order_for_every_epoch() -> None:
    class Recorder(L.LightningModule):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            orders.setdefault(self.current_epoch, []).extend(batch[1].tolist())

        def configure_optimizers(self) -> None:
            return None

    orders: dict[int, list[int]] = {}
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Recorder(), loader(shuffle=True, seed=3))
    assert orders == {epoch: epoch_of(loader(shuffle=True, seed=3), epoch) for epoch in range(3)}


# ---- what is refused


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_1_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size={batch_size} must be at least 1"):
        loader(batch_size=batch_size)


@pytest.mark.parametrize(("batch_size", "world_size", "share"), [(24, 1, 23), (12, 2, 11)])
def test_an_epoch_without_a_single_full_batch_is_refused(batch_size: int, world_size: int, share: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size={batch_size} is larger than the {share} samples"):
        loader(23, batch_size, drop_last=True, world_size=world_size)
    assert len(loader(23, batch_size, drop_last=False, world_size=world_size)) == 1
    assert len(loader(23, share, drop_last=True, world_size=world_size)) == 1
