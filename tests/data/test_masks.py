"""Masks move with their images, and images as they did before augmentation handled targets."""

from functools import partial
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from src.data.augmentation import BatchAugmentation
from src.data.batches import InMemoryLoader
from src.data.in_memory import InMemoryDataModule
from src.data.photographs import augmented
from tests.data.test_augmentation import PARTS, augment, every_part, generator, noise

# of three images of noise, by the commit ddb4351, whose augmentation took and returned images alone
IMAGES_OF_BEFORE = {
    "crop": [5286.722, 5319.045, 3859.519],
    "flip": [6143.511, 6122.241, 6183.698],
    "rotation": [6246.79, 5491.996, 5342.413],
    "translation": [5395.074, 5034.15, 5704.296],
    "zoom": [6344.58, 5126.645, 5425.343],
    "erasing": [6245.061, 6140.741, 6198.712],
    "view": [6079.874, 6170.452, 6028.335],
    "all": [4309.131, 4662.185, 4230.694],
}


def weighted(images: Tensor) -> list[float]:
    """Return a number for each image that distinguishes images with other pixels or the same ones elsewhere."""
    weights = torch.arange(images[0].numel()) % 97
    return (images.double().flatten(1) * weights).mean(1).tolist()


def disc(batch: int, size: int) -> Tensor:
    """Make off-centre discs of ones in zeros, (B, H, W)."""
    row, column = torch.arange(size)[:, None], torch.arange(size)
    return ((row - size * 0.4) ** 2 + (column - size * 0.6) ** 2 < (size / 4) ** 2).long().expand(batch, -1, -1)


# ---- images have not changed


@pytest.mark.parametrize("part", IMAGES_OF_BEFORE)
def test_images_are_those_of_before(part: str) -> None:
    assert weighted(augment(noise(3, 3, 9, 14), **PARTS[part])) == pytest.approx(IMAGES_OF_BEFORE[part], rel=1e-5)


def test_batches_and_photographs_are_those_of_before() -> None:
    augmentation = BatchAugmentation(**PARTS["all"])
    images = noise(50, 1, 28, 28)
    options = {"mean": [0.1], "std": [0.3], "shuffle": True, "augmentation": augmentation, "seed": 3}
    batch, _ = next(iter(InMemoryLoader(images, torch.arange(50), 3, **options)))
    assert weighted(batch) == pytest.approx([45.076, 56.093, 60.459], rel=1e-4)
    photo = Image.fromarray(noise(40, 50, 3).numpy())
    pixels = torch.stack([augmented(photo, seed, 24, augmentation) for seed in range(3)])
    assert weighted(pixels) == pytest.approx([4680.451, 5690.922, 5217.392], rel=1e-3)  # Pillow rounds


@every_part
def test_masks_change_neither_the_images_nor_the_draws_after_them(options: dict[str, Any]) -> None:
    images, masks = noise(16, 3, 12, 12), noise(16, 12, 12)
    alone, together = generator(), generator()
    augmentation = BatchAugmentation(**options)
    expected, _ = augmentation(images, torch.zeros(16), alone)
    assert torch.equal(augmentation(images, masks, together)[0], expected)
    assert torch.equal(alone.get_state(), together.get_state())


# ---- masks


# operations change pixels as well; see test_random_operations.py
@pytest.mark.parametrize("options", [PARTS[part] for part in PARTS if part != "operations"], ids=str)
def test_masks_follow_their_images(options: dict[str, Any]) -> None:
    """A mask that is drawn into its image covers the same pixels afterwards, but for the blur at its border."""
    masks = disc(64, 40)
    images = 255.0 * masks[:, None]
    moving = {**options, "erasing": 0, "cutout": 0}
    moved, moved_masks = BatchAugmentation(**moving)(images, masks, generator())
    assert ((moved[:, 0] > 127).long() != moved_masks).float().mean() < 0.01
    sharp = (moved[:, 0] < 1) | (moved[:, 0] > 254)
    assert torch.equal((moved[:, 0] > 127).long()[sharp], moved_masks[sharp])
    assert options.keys() <= {"erasing", "cutout"} or not torch.equal(moved_masks, masks)


@pytest.mark.parametrize("part", ["crop", "flip", "all"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64], ids=str)
def test_classes_of_masks_are_kept_as_they_are(part: str, dtype: torch.dtype) -> None:
    masks = (100 * (noise(16, 12, 12) % 3)).to(dtype)
    options = {**PARTS[part], "mask_fill": 7}
    _, moved = BatchAugmentation(**options)(noise(16, 3, 12, 12), masks, generator())
    assert moved.dtype == dtype and moved.shape == masks.shape
    assert set(moved.unique().tolist()) == {0, 100, 200} | ({7} if part != "flip" else set())


@pytest.mark.parametrize("options", [{"crop_padding": 3}, {"translate": 0.3}], ids=str)
@pytest.mark.parametrize("fill", [0, 255, -100])
def test_what_comes_from_outside_has_the_class_that_is_named(options: dict[str, Any], fill: int) -> None:
    images, masks = torch.full((32, 1, 12, 12), 255.0), torch.ones(32, 12, 12, dtype=torch.int64)
    moved, moved_masks = BatchAugmentation(**options, mask_fill=fill)(images, masks, generator())
    outside = moved[:, 0] == 0
    assert outside.any() and (moved_masks[outside] == fill).all()
    assert (moved_masks[moved[:, 0] == 255] == 1).all()


def test_nothing_is_erased_from_a_mask() -> None:
    images, masks = noise(8, 3, 12, 12), noise(8, 12, 12)
    moved, same = BatchAugmentation(erasing=1.0)(images, masks, generator())
    assert torch.equal(same, masks) and not torch.equal(moved, images)


@every_part
@pytest.mark.parametrize("shape", [(16,), (16, 3)], ids=["labels", "heads"])
def test_labels_pass_through(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    labels = torch.randint(10, shape, generator=generator())
    assert torch.equal(BatchAugmentation(**options)(noise(16, 3, 12, 12), labels, generator())[1], labels)


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 1, 12, 12), (3, 12, 12)], ids=str)
def test_targets_that_cannot_follow_are_refused_where_pixels_move(shape: tuple[int, ...]) -> None:
    images, targets = noise(4, 3, 12, 12), torch.zeros(shape)
    with pytest.raises(ValueError, match=r"Targets of shape .* cannot follow images of shape \(4, 3, 12, 12\)"):
        BatchAugmentation(horizontal_flip=0.5)(images, targets, generator())
    assert BatchAugmentation(erasing=0.5)(images, targets, generator())[1] is targets


def test_a_fill_that_masks_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask_fill=-100 does not fit masks of torch\.uint8"):
        BatchAugmentation(crop_padding=1, mask_fill=-100)(noise(4, 3, 12, 12), noise(4, 12, 12), generator())


# ---- a user's own function


def mixup(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix each image with another one; targets are shares of classes (B, 4)."""
    share = torch.rand((), generator=generator)
    order = torch.randperm(len(images), generator=generator)
    onehot = nn.functional.one_hot(targets, 4).float()
    return share * images + (1 - share) * images[order], share * onehot + (1 - share) * onehot[order]


def of_before(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    return images


class OfBefore(nn.Module):
    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images


class Mixup(nn.Module):
    def forward(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return mixup(images, targets, generator)


def scaled(images: Tensor, targets: Tensor, generator: torch.Generator, *, scale: int) -> tuple[Tensor, Tensor]:
    mixed, shares = mixup(images, targets, generator)
    return mixed, scale * shares


@pytest.mark.parametrize(
    ("own", "total"), [(mixup, 1), (Mixup(), 1), (partial(scaled, scale=2), 2)], ids=["function", "module", "partial"]
)
def test_targets_may_be_mixed(own: Any, total: int, given_tensors: type[InMemoryDataModule]) -> None:
    images, labels = noise(16, 1, 4, 4), torch.arange(16) % 4
    data = given_tensors(images, labels, images, labels, batch_size=8, augmentation=own)
    data.setup()
    for _, shares in data.train_dataloader():
        torch.testing.assert_close(shares.sum(1), torch.full((8,), float(total)))
        assert ((shares > 0).sum(1) == 2).any()
    for _, served in data.test_dataloader():
        assert served.dtype == torch.int64


@pytest.mark.parametrize(
    "own",
    [of_before, partial(of_before, strength=2.0), OfBefore(), v2.Compose([v2.RandomHorizontalFlip()])],
    ids=["function", "partial", "module", "torchvision"],
)
def test_a_function_of_images_alone_is_refused_when_the_data_are_made(
    own: Any, given_tensors: type[InMemoryDataModule]
) -> None:
    images, labels = noise(16, 1, 4, 4), torch.arange(16) % 4
    with pytest.raises(ValueError, match=r"must take \(images, targets, generator\) and return images and targets\.$"):
        given_tensors(images, labels, images, labels, augmentation=own)
