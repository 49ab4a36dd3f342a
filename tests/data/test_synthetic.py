"""Synthetic images: any shape, drawn by a seed, learnable."""

from typing import Any

import pytest
import torch
from torch import Tensor

from src.data.synthetic import SyntheticDataModule
from tests.data.conftest import sizes_of


def parts(**options: Any) -> list[tuple[Tensor, Tensor]]:
    """Images (N, C, H, W) and labels of train, val and test."""
    small = {"train_size": 300, "val_size": 100, "test_size": 90, "image_size": 12}
    datamodule = SyntheticDataModule(**sizes_of("synthetic", **{**small, **options}))
    datamodule.setup()
    datasets = (datamodule.data_train, datamodule.data_val, datamodule.data_test)
    return [(dataset.tensors[0], dataset.tensors[1]) for dataset in datasets if dataset is not None]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_size", [1, 5, 33])
@pytest.mark.parametrize("num_classes", [1, 7, 30])
def test_any_shape_and_any_number_of_classes(channels: int, image_size: int, num_classes: int) -> None:
    train, val, test = parts(channels=channels, image_size=image_size, num_classes=num_classes)
    for (images, labels), count in zip((train, val, test), (200, 100, 90), strict=True):
        assert images.shape == (count, channels, image_size, image_size)
        assert images.dtype == torch.uint8
        assert labels.shape == (count,)
    labels = torch.cat([train[1], val[1], test[1]])
    assert labels.unique().tolist() == list(range(num_classes))


def test_the_seed_of_the_data_alone_decides_on_the_images() -> None:
    torch.manual_seed(1)
    first = parts(seed=1)
    torch.manual_seed(2)
    for ours, theirs in zip(first, parts(seed=2), strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert not torch.equal(first[2][0], parts(data_seed=1)[2][0])


def test_no_image_is_in_two_parts() -> None:
    images = torch.cat([images for images, _ in parts()])
    assert len(images.flatten(1).unique(dim=0)) == 390


def test_what_is_learnt_in_training_holds_in_the_test() -> None:
    (images, labels), _, (test_images, test_labels) = parts(train_size=600, num_classes=5)
    means = torch.stack([images[labels == number].float().mean(0).flatten() for number in range(5)])
    nearest = torch.cdist(test_images.float().flatten(1), means).argmin(dim=1)
    assert (nearest == test_labels).float().mean() > 0.95


@pytest.mark.parametrize("name", ["train_size", "test_size", "num_classes"])
def test_a_size_below_1_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        SyntheticDataModule(**sizes_of("synthetic", **{name: 0}))
