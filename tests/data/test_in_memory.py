"""The base class of the DataModules in memory: resize, split, measure, serve."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from src.data.in_memory import InMemoryDataModule

DataModule = type[InMemoryDataModule]


def noise(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def tensors(train: int = 40, test: int = 10, channels: int = 1, size: int = 4) -> tuple[Tensor, ...]:
    """Make noise images labelled with their own indices, test images after training images, to identify them."""
    images, labels = noise(train + test, channels, size, size), torch.arange(train + test)
    return images[:train], labels[:train], images[train:], labels[train:]


def one_image(rows: list[list[int]]) -> tuple[Tensor, ...]:
    image, label = torch.tensor(rows, dtype=torch.uint8).view(1, 1, len(rows), -1), torch.zeros(1, dtype=torch.long)
    return image, label, image, label


def stored(datamodule: Any, part: str, field: int = 0) -> Tensor:
    """Return the images (field 0) or labels (field 1) of data_train, data_val or data_test."""
    datamodule.setup()
    return getattr(datamodule, f"data_{part}").tensors[field]


# ---- channels and size


def test_grey_images_are_repeated_for_a_net_that_wants_rgb(given_tensors: DataModule) -> None:
    data = tensors(channels=1)
    images = stored(given_tensors(*data, num_classes=50, channels=3), "test")
    assert images.shape == (10, 3, 4, 4)
    assert all(torch.equal(images[:, [channel]], data[2]) for channel in range(3))


def test_rgb_images_become_grey_by_the_weights_of_itu_r_601(given_tensors: DataModule) -> None:
    colours = torch.tensor([[10, 200, 30], [255, 255, 255], [0, 0, 255]], dtype=torch.uint8).view(3, 3, 1, 1)
    data = (colours, torch.arange(3), colours, torch.arange(3))
    images = stored(given_tensors(*data, channels=1), "test")
    assert images.dtype == torch.uint8
    # 0.299 × 10 + 0.587 × 200 + 0.114 × 30 = 123.8; 0.114 × 255 = 29.1
    assert images.flatten().tolist() == [124, 255, 29]


@pytest.mark.parametrize("number", range(2), ids=["training", "test"])
@pytest.mark.parametrize("rows", [[[1, 2], [3, 4]], [[1, 2, 3], [4, 5, 6]], [[1], [2], [3]]], ids=["2×2", "2×3", "3×1"])
def test_a_smaller_image_gets_a_black_border_on_all_sides(
    rows: list[list[int]], number: int, given_tensors: DataModule
) -> None:
    image = stored(given_tensors(*one_image(rows), image_size=5), ("train", "test")[number])[0, 0]
    height, width = len(rows), len(rows[0])
    top, left = (5 - height) // 2, (5 - width) // 2
    assert image.shape == (5, 5)
    assert image[top : top + height, left : left + width].tolist() == rows
    assert image.sum() == sum(map(sum, rows))


def test_a_larger_image_is_resized_without_aliasing(given_tensors: DataModule) -> None:
    stripes = [[255, 0, 0, 0] * 8] * 32  # the mean of a stripe's period is 64; plain bilinear sampling would see 0
    image = stored(given_tensors(*one_image(stripes), image_size=8), "test")[0, 0]
    assert image.dtype == torch.uint8
    assert image.shape == (8, 8)
    assert (image[:, 1:-1].float() - 64).abs().max() <= 2


def test_an_image_that_fits_is_left_as_it_is(given_tensors: DataModule) -> None:
    data = tensors()
    assert torch.equal(stored(given_tensors(*data, num_classes=50), "test"), data[2])


# ---- the split


def split(datamodule: Any) -> tuple[list[int], list[int], list[int]]:
    train, val, test = (stored(datamodule, part, field=1).tolist() for part in ("train", "val", "test"))
    return train, val, test


def test_validation_is_carved_from_training_and_the_test_set_is_left_alone(given_tensors: DataModule) -> None:
    data = tensors()
    datamodule = given_tensors(*data, num_classes=50, val_size=15)
    train, val, test = split(datamodule)
    assert (len(train), len(val)) == (25, 15)
    assert sorted(train + val) == list(range(40))
    assert test == list(range(40, 50))
    assert torch.equal(stored(datamodule, "val"), data[0][val])  # images and labels still belong together
    assert torch.equal(stored(datamodule, "train"), data[0][train])


def test_the_split_follows_split_seed_and_not_the_seed_of_the_run(given_tensors: DataModule) -> None:
    data = tensors()
    splits = []
    for seed, split_seed in ((0, 0), (1, 0), (0, 1)):
        torch.manual_seed(seed)
        splits.append(split(given_tensors(*data, num_classes=50, val_size=15, seed=seed, split_seed=split_seed)))
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_a_validation_set_may_be_left_out(given_tensors: DataModule) -> None:
    datamodule = given_tensors(*tensors(), num_classes=50, val_size=0, drop_last=False)
    train, val, _ = split(datamodule)
    assert (len(train), len(val)) == (40, 0)
    assert list(datamodule.val_dataloader()) == []


def test_the_data_is_loaded_once(given_tensors: DataModule) -> None:
    datamodule: Any = given_tensors(*tensors(), num_classes=50, val_size=15)
    for stage in ("fit", "validate", "test"):
        datamodule.setup(stage)
    assert datamodule.loads == 1


# ---- statistics


def test_mean_and_deviation_are_those_of_the_training_pixels_alone(given_tensors: DataModule) -> None:
    images = noise(9000, 3, 2, 2)  # more than are summed up at a time
    images[:, 1] //= 4  # each channel has its own
    labels = torch.zeros(9000, dtype=torch.long)
    datamodule = given_tensors(images, labels, images, labels, val_size=4000)
    pixels = stored(datamodule, "train").double() / 255
    assert datamodule.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), rel=1e-6)
    assert datamodule.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-6)
    everything = images.double() / 255
    assert datamodule.mean != pytest.approx(everything.mean(dim=(0, 2, 3)).tolist(), rel=1e-6)


def test_mean_and_deviation_that_are_given_are_used(given_tensors: DataModule) -> None:
    image = one_image([[51]])
    datamodule = given_tensors(*image, batch_size=1, mean=[0.1], std=[0.5])
    datamodule.setup()
    for batches in (datamodule.train_dataloader(), datamodule.test_dataloader()):
        ((images, _),) = batches
        assert images.item() == pytest.approx((51 / 255 - 0.1) / 0.5)


def test_a_mean_without_a_std_or_of_the_wrong_length_is_refused(given_tensors: DataModule) -> None:
    with pytest.raises(ValueError, match="must both be given"):
        given_tensors(*tensors(), num_classes=50, mean=[0.1])
    with pytest.raises(ValueError, match="a value for each of channels=1"):
        given_tensors(*tensors(), num_classes=50, mean=[0.1, 0.2], std=[0.1, 0.2])


def test_images_of_one_colour_are_served_as_finite_numbers(given_tensors: DataModule) -> None:
    datamodule = given_tensors(*one_image([[7, 7], [7, 7]]), batch_size=1)
    datamodule.setup()
    ((images, _),) = datamodule.train_dataloader()
    assert images.abs().max() < 1


# ---- the loaders


def black(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(images), targets


def test_only_training_batches_are_shuffled_augmented_and_cut_to_full_size(given_tensors: DataModule) -> None:
    options: dict[str, Any] = {"num_classes": 50, "val_size": 15, "batch_size": 4, "mean": [0.0], "std": [1.0]}
    datamodule = given_tensors(*tensors(), **options, augmentation=black)
    datamodule.setup()
    served = [
        list(batches)
        for batches in (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader())
    ]
    train, val, test = ([label for _, labels in batches for label in labels.tolist()] for batches in served)
    assert [len(labels) for _, labels in served[0]] == [4] * 6
    assert train != sorted(train)
    assert not any(images.any() for images, _ in served[0])
    assert (val, test) == split(datamodule)[1:]
    assert all(images.any() for images, _ in served[1] + served[2])


def test_shuffling_and_dropping_can_be_switched_off(given_tensors: DataModule) -> None:
    datamodule = given_tensors(*tensors(), num_classes=50, batch_size=32, shuffle=False, drop_last=False)
    datamodule.setup()
    labels = [labels.tolist() for _, labels in datamodule.train_dataloader()]
    assert labels == [list(range(32)), list(range(32, 40))]


def test_the_seed_decides_the_order_of_training(given_tensors: DataModule) -> None:
    orders = []
    for seed in (1, 1, 2):
        datamodule = given_tensors(*tensors(), num_classes=50, batch_size=40, seed=seed)
        datamodule.setup()
        orders += [labels.tolist() for _, labels in datamodule.train_dataloader()]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_processes_share_the_batch(given_tensors: DataModule) -> None:
    datamodule: Any = given_tensors(*tensors(), num_classes=50, batch_size=10)
    datamodule.setup()
    shares = []
    for rank in (0, 1):
        # what the DataModule asks of a trainer; a real one of two processes would have to start them
        datamodule.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        shares.append([labels.tolist() for _, labels in datamodule.train_dataloader()])
    assert [[len(labels) for labels in share] for share in shares] == [[5] * 4] * 2
    assert sorted(label for share in shares for labels in share for label in labels) == list(range(40))
    datamodule.batch_size = 9
    with pytest.raises(ValueError, match="batch_size=9 must be a multiple of the 2 processes"):
        datamodule.train_dataloader()


# ---- what is refused


@pytest.mark.parametrize("position", [1, 3], ids=["training", "test"])
@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_out_of_range_is_refused(position: int, label: int, given_tensors: DataModule) -> None:
    data = tensors(train=10, test=10)
    labels = [torch.arange(10), torch.arange(10)]
    labels[position // 2][3] = label
    with pytest.raises(ValueError, match=rf"labels run from .*{label}.* 10 classes"):
        given_tensors(data[0], labels[0], data[2], labels[1], num_classes=10).setup()


@pytest.mark.parametrize("val_size", [40, 41, -1])
def test_a_validation_set_that_leaves_nothing_to_train_on_is_refused(val_size: int, given_tensors: DataModule) -> None:
    with pytest.raises(ValueError, match=f"val_size={val_size} must be less than the 40 training images"):
        given_tensors(*tensors(), num_classes=50, val_size=val_size).setup()


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("batch_size", -3), ("channels", 2), ("num_classes", 0)]
)
def test_an_impossible_value_is_refused(name: str, value: int, given_tensors: DataModule) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} must be"):
        given_tensors(*tensors(), **{name: value})


def test_workers_are_said_to_be_of_no_use(given_tensors: DataModule, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        given_tensors(*tensors(), num_workers=4)
    assert "num_workers=4 has no effect" in caplog.text


def test_memory_is_not_pinned_without_a_gpu_and_that_is_said_once(
    given_tensors: DataModule, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    datamodule = given_tensors(*tensors(), num_classes=50, batch_size=10, pin_memory=True)
    datamodule.setup()
    assert len(list(datamodule.train_dataloader())) == 4 and len(list(datamodule.test_dataloader())) == 1
    assert caplog.text.count("data.pin_memory=true has no effect") == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    datamodule = given_tensors(*tensors(), num_classes=50, pin_memory=True)
    datamodule.setup()
    assert datamodule.val_dataloader().pin_memory and caplog.text.count("has no effect") == 1


# ---- the sizes of classes


@pytest.mark.parametrize("num_classes", [3, {"digit": 3, "thickness": 2}])
def test_the_images_of_each_class_are_counted(num_classes: Any, given_tensors: DataModule) -> None:
    images, labels = noise(12, 1, 6, 6), torch.tensor([0, 0, 0, 0, 0, 0, 0, 2, 2, 0, 1, 2])
    datamodule = given_tensors(images[:9], labels[:9], images[9:], labels[9:], num_classes=num_classes)
    datamodule.setup()
    counts = {split: own.tolist() for split, own in datamodule.class_counts().items()}
    assert counts == {"train": [7, 0, 2], "test": [1, 1, 1]}  # without a validation set


def test_classes_of_very_different_sizes_are_named(given_tensors: DataModule, caplog: pytest.LogCaptureFixture) -> None:
    images, labels = noise(44, 1, 4, 4), torch.tensor([0] * 20 + [1] * 2 + [0] * 20 + [1] * 2)
    even, rare = torch.arange(44) % 2, labels
    for given, warned in ((even, False), (rare, True)):
        caplog.clear()
        given_tensors(images[:22], given[:22], images[22:], given[22:], num_classes=2).setup()
        assert ("from 2 of 1 to 20 of 0" in caplog.text) == warned
        assert len(caplog.records) == warned


# ---- classes that only the test has


def test_classes_that_are_held_out_are_in_the_test_alone(
    given_tensors: DataModule, caplog: pytest.LogCaptureFixture
) -> None:
    images, labels = noise(60, 1, 4, 4), torch.arange(60) % 4
    data = given_tensors(images[:40], labels[:40], images[40:], labels[40:], num_classes=4, val_size=8, held_out=[1, 3])
    data.setup()
    counts = {split: count.tolist() for split, count in data.class_counts().items()}
    assert [sum(counts[split]) for split in ("train", "val", "test")] == [12, 8, 20]
    assert all(counts[split][label] == 0 for split in ("train", "val") for label in (1, 3))
    assert counts["test"] == [5, 5, 5, 5] and not caplog.messages


def test_classes_that_there_are_not_cannot_be_held_out(given_tensors: DataModule) -> None:
    with pytest.raises(ValueError, match=r"held_out=\[50\] must list classes, which run from 0 to 49"):
        given_tensors(*tensors(), num_classes=50, held_out=[50])
