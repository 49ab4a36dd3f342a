"""Training images change with the epoch: augmented up to a fraction of the run, enlarged in steps, mirrored in turn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from src.data.augmentation import BatchAugmentation
from src.data.batches import InMemoryLoader
from src.data.image_folder import ImageFolderDataModule
from src.data.image_schedule import ImageSchedule
from src.data.resumable_loader import SeededSampler
from src.data.synthetic import SyntheticDataModule
from src.train import train
from tests.data.conftest import write_photographs

COUNT = 40


class Recorder(L.LightningModule):
    """Records the batches of each epoch, without training."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, list[Any]] = {}
        self.validated: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.setdefault(self.current_epoch, []).append(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(batch)

    def configure_optimizers(self) -> None:
        return None


def fit(data: L.LightningDataModule, epochs: int = 5, **options: Any) -> Recorder:
    model = Recorder()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    L.Trainer(max_epochs=epochs, enable_model_summary=False, **quiet, **options).fit(model, datamodule=data)
    return model


def synthetic(**options: Any) -> SyntheticDataModule:
    sizes = {"train_size": COUNT + 16, "val_size": 16, "test_size": 16, "batch_size": 16, "num_classes": 4}
    return SyntheticDataModule(**{**sizes, "channels": 1, "image_size": 16, **options})


def invert(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return 255 - images, targets


def served(loader: InMemoryLoader, epoch: int) -> tuple[Tensor, Tensor]:
    """Images and targets of an epoch, in the order of the data set."""
    loader.set_epoch(epoch)
    images, targets = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(targets)


@pytest.mark.parametrize(("until", "augmented"), [(1.0, 5), (0.8, 4), (0.6, 3), (0.5, 3), (0.0, 0)])
def test_the_last_part_of_the_run_sees_plain_images(until: float, augmented: int) -> None:
    plain, changed = fit(synthetic()), fit(synthetic(augmentation=invert, augment_until=until))
    same = [
        all(torch.equal(a[0], b[0]) for a, b in zip(plain.seen[epoch], changed.seen[epoch], strict=True))
        for epoch in range(5)
    ]
    assert same == [False] * augmented + [True] * (5 - augmented)


def test_a_run_that_ends_by_steps_has_fractions_as_well() -> None:
    """2 steps an epoch: the fourth epoch begins after 6 of 8 steps."""
    plain = fit(synthetic(), epochs=-1, max_steps=8)
    changed = fit(synthetic(augmentation=invert, augment_until=0.75), epochs=-1, max_steps=8)
    same = [torch.equal(plain.seen[epoch][0][0], changed.seen[epoch][0][0]) for epoch in range(4)]
    assert same == [False, False, False, True]


def test_a_run_without_an_end_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs"):
        fit(synthetic(sizes=[8, 16]), epochs=-1, max_time="00:00:00:05")  # otherwise it would go on for ever


@pytest.mark.parametrize(
    ("sizes", "epochs", "expected"),
    [
        ([8, 12, 16], 3, [8, 12, 16]),
        ([8, 16], 5, [8, 8, 8, 16, 16]),
        ([8, 12, 16], 7, [8, 8, 8, 12, 12, 16, 16]),
        ([12], 2, [12, 12]),
        ([4, 8, 12, 16], 2, [4, 12]),
    ],
)
def test_images_grow_in_equal_parts_of_the_run_and_are_validated_whole(
    sizes: list[int], epochs: int, expected: list[int]
) -> None:
    model = fit(synthetic(sizes=sizes, augmentation=BatchAugmentation(crop_padding=2)), epochs)
    assert [model.seen[epoch][0][0].shape[2:] for epoch in range(epochs)] == [(size, size) for size in expected]
    assert {batch[0].shape[2:] for batch in model.validated} == {(16, 16)}


def test_a_smaller_image_is_a_mean_of_the_whole() -> None:
    images = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
    small, _ = ImageSchedule(sizes=[8]).resized(images, torch.arange(4), 0)
    assert small.shape == (4, 3, 8, 8)
    torch.testing.assert_close(small.mean(dim=(1, 2, 3)), images.float().mean(dim=(1, 2, 3)), rtol=0.03, atol=0)
    flat, _ = ImageSchedule(sizes=[8]).resized(torch.full_like(images, 77), torch.arange(4), 0)
    torch.testing.assert_close(flat, torch.full((4, 3, 8, 8), 77.0))


def test_masks_shrink_with_their_images_and_keep_their_classes() -> None:
    masks = torch.zeros(2, 16, 16, dtype=torch.uint8)
    masks[:, 3:12, 7:] = 255
    images, small = ImageSchedule(sizes=[8]).resized(masks[:, None], masks, 0)
    assert small.dtype == torch.uint8 and set(small.unique().tolist()) == {0, 255}
    assert torch.equal(small, masks[:, 1::2, 1::2])
    assert ((images[:, 0] > 127) == (small == 255)).float().mean() > 0.9


def test_each_image_is_mirrored_in_every_other_epoch() -> None:
    """As many as not in each; which of them first follows from the seed, whatever the order."""
    images = torch.randint(256, (COUNT, 3, 4, 6), dtype=torch.uint8)
    masks = images[:, 0]
    options: Any = {"mean": [0.0] * 3, "std": [1 / 255] * 3, "schedule": ImageSchedule(alternating_flip=True)}
    loader = InMemoryLoader(images, masks, 7, **options)
    mirrored = []
    for epoch in range(4):
        found, found_masks = served(loader, epoch)
        mirrored.append((found == images.flip(3)).flatten(1).all(1))
        assert torch.equal(found[~mirrored[-1]], images[~mirrored[-1]].float())
        assert torch.equal(found_masks.float(), found[:, 0]), "masks are mirrored with their images"
    assert COUNT / 4 < mirrored[0].sum() < COUNT * 3 / 4
    assert torch.equal(mirrored[0], ~mirrored[1]) and torch.equal(mirrored[0], mirrored[2])
    assert torch.equal(mirrored[1], mirrored[3])
    shuffled = InMemoryLoader(images, torch.arange(COUNT), 7, shuffle=True, **options)
    found, order = served(shuffled, 0)
    assert torch.equal((found == images[order].flip(3)).flatten(1).all(1), mirrored[0][order])
    other = served(InMemoryLoader(images, masks, 7, seed=1, **options), 0)[0]
    assert not torch.equal((other == images.flip(3)).flatten(1).all(1), mirrored[0])


def test_photographs_are_plain_at_last_too(tmp_path: Path) -> None:
    write_photographs(tmp_path, count=12)
    sizes = {"channels": 3, "image_size": 16, "batch_size": 4, "val_fraction": 0.2, "test_fraction": 0.2}
    options: dict[str, Any] = {**sizes, "shuffle": False}
    plain = fit(ImageFolderDataModule(str(tmp_path), **options), 4)
    flip = BatchAugmentation(horizontal_flip=1.0)
    changed = fit(ImageFolderDataModule(str(tmp_path), **options, augmentation=flip, augment_until=0.5), 4)
    for epoch in range(4):
        for (a, _), (b, _) in zip(plain.seen[epoch], changed.seen[epoch], strict=True):
            assert torch.equal(a, b.flip(3) if epoch < 2 else b)


def test_a_sampler_gives_no_seeds_where_it_shall_not() -> None:
    sampler = SeededSampler(5, True, False, 3, 0, 1, has_seeds=lambda epoch: epoch < 1)
    first = list(sampler)
    assert all(isinstance(seed, int) for _, seed in first)
    sampler.set_epoch(1)
    assert sorted(sampler) == [(index, None) for index in range(5)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"augment_until": 1.5}, r"augment_until=1\.5"),
        ({"sizes": []}, r"sizes=\[\]"),
        ({"sizes": [8, 0]}, r"sizes=\[8, 0\]"),
        ({"sizes": [8], "length": 16, "features": 16}, r"set data\.sizes=null"),
        (
            {"alternating_flip": True, "augmentation": BatchAugmentation(horizontal_flip=0.5)},
            r"set data\.augmentation\.horizontal_flip=0",
        ),
    ],
)
def test_what_means_nothing_is_refused_by_name_and_value(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        synthetic(**options)


def test_a_net_for_one_size_says_so(compose: Callable[..., DictConfig]) -> None:
    small = ["data=synthetic", "data.train_size=40", "data.val_size=8", "callbacks=none", "logger=none"]
    with pytest.raises(ValueError, match=r"\(32, 3, 16, 16\), but the net takes \(batch, 3, 32, 32\)"):
        train(compose("model=simple_mlp", *small, "data.batch_size=32", "data.sizes=[16,32]", "trainer=cpu"))
