"""Each operation equals torchvision's, in the ranges of the papers, and is drawn for each image."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, v2

from src.data.augmentation import BatchAugmentation
from src.data.random_operations import GEOMETRIC, NARROW, OPERATIONS, WIDE, RandomOperations, Ranges, operate

PEERS = {"wide": (WIDE, v2.TrivialAugmentWide()), "narrow": (NARROW, v2.RandAugment())}
THEIR_NAMES = {"shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX", "translate_y": "TranslateY"}
THEIR_NAMES |= {"colour": "Color", "autocontrast": "AutoContrast"}
# torchvision cuts off fractions of pixels' values, more than once in an operation; others are exact
TOLERANCES = dict.fromkeys(("brightness", "autocontrast"), 1.01) | dict.fromkeys(("contrast", "colour", "sharpness"), 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    """Make random uint8 images of different contrast: smooth, with a little noise."""
    contrast = torch.linspace(60, 240, count).view(-1, 1, 1, 1)
    coarse = contrast * torch.rand(count, channels, 5, 5, generator=generator(7))
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")
    return (smooth + 20 * torch.rand(smooth.shape, generator=generator(8))).clamp(0, 255).byte()


def apply(name: str, images: Tensor, strength: float, ranges: Ranges = WIDE, mode: str = "bilinear") -> Tensor:
    """Apply one operation to all images."""
    kinds = torch.full((len(images),), OPERATIONS.index(name))
    return operate(images, kinds, torch.full((len(images),), strength), ranges, mode)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("level", [0, 9, 15, 30])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_torchvision_at_every_strength(name: str, sign: int, level: int, peer: str) -> None:
    """Of its TrivialAugment and RandAugment, with their tables of strengths."""
    ranges, theirs = PEERS[peer]
    their_name = THEIR_NAMES.get(name, name.capitalize())
    magnitudes, signed = theirs._AUGMENTATION_SPACE[their_name]
    table = magnitudes(31, 36, 48)
    magnitude = float(table[level]) if table is not None and table.ndim else 0.0
    images = pictures(6, 3, 36, 48)
    if name in GEOMETRIC:
        images = images.float()
    if name.startswith("translate"):
        magnitude = round(magnitude)
    expected = theirs._apply_image_or_video_transform(
        images, their_name, sign * magnitude if signed else magnitude, InterpolationMode.BILINEAR, theirs._fill
    )
    ours = apply(name, images, sign * level / 30, ranges)
    assert ours.dtype == torch.float32 and ours.shape == images.shape
    torch.testing.assert_close(ours, expected.float(), rtol=0, atol=TOLERANCES.get(name, 0.05))
    changes = name != "identity" and (level or name in ("autocontrast", "equalize"))
    assert not changes or (ours - images.float()).abs().max() >= 1, "the test has images that the operation changes"


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 14), (1, 1, 1), (3, 2, 5)], ids=str)
def test_any_shape_and_constant_images_stay_in_the_range(name: str, shape: tuple[int, int, int]) -> None:
    for images in (pictures(4, *shape), torch.full((4, *shape), 200, dtype=torch.uint8), torch.zeros(4, *shape)):
        before = images.clone()
        result = apply(name, images, 0.7)
        assert torch.equal(images, before)
        assert result.shape == images.shape and result.min() >= 0 and result.max() <= 255.001


def test_a_rotation_is_one_in_pixels_whatever_the_shape() -> None:
    images = pictures(2, 3, 20, 41).float()
    expected = v2.functional.rotate(images, 54.0, InterpolationMode.BILINEAR)
    torch.testing.assert_close(apply("rotate", images, 54 / 135), expected, rtol=0, atol=0.05)


def test_grey_images_keep_their_colour() -> None:
    images = pictures(4, 1)
    assert torch.equal(apply("colour", images, 1.0), images.float())


def test_operations_are_drawn_for_each_image_and_are_equally_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the strengths of TrivialAugment are 31 levels, from 0 to 1."""
    drawn: list[tuple[Tensor, Tensor, Ranges]] = []
    monkeypatch.setattr(
        "src.data.random_operations.operate",
        lambda images, kinds, strengths, ranges, mode: drawn.append((kinds, strengths, ranges)) or images,
    )
    count, images = 14_000, torch.zeros(1, 1, 1, 1)
    RandomOperations()(images.expand(count, -1, -1, -1), generator())
    ((kinds, strengths, ranges),) = drawn
    assert ranges is WIDE
    assert torch.bincount(kinds, minlength=len(OPERATIONS)).sub(1000).abs().max() < 120
    levels = (strengths.abs() * 30).round().int()
    torch.testing.assert_close(levels / 30, strengths.abs())
    assert torch.bincount(levels, minlength=31).sub(count / 31).abs().max() < 100
    assert (strengths < 0).float().mean() == pytest.approx(0.48, abs=0.02)  # 0 has no sign
    assert torch.corrcoef(torch.stack([kinds.float(), strengths]))[0, 1].abs() < 0.03

    drawn.clear()
    RandomOperations(3, 0.3)(images.expand(count, -1, -1, -1), generator())
    assert [ranges for *_, ranges in drawn] == [NARROW] * 3
    assert all(strengths.abs().unique().tolist() == pytest.approx([0.3]) for _, strengths, _ in drawn)
    assert len({tuple(kinds.tolist()) for kinds, *_ in drawn}) == 3


def test_masks_are_moved_as_their_images_are_and_never_recoloured() -> None:
    masks = torch.zeros(200, 32, 32, dtype=torch.uint8)
    masks[:, 8:22, 10:26] = 3
    images = masks[:, None] * 80
    moved, moved_masks = BatchAugmentation(operations=2, strength=0.8)(images, masks, generator())
    assert moved_masks.dtype == torch.uint8 and set(moved_masks.unique().tolist()) == {0, 3}
    changed = (moved_masks != masks).flatten(1).any(1)
    assert 0.3 < changed.float().mean() < 0.9
    moved, moved_masks = BatchAugmentation(operations=1)(images, masks, generator())
    kinds = torch.randint(len(OPERATIONS), (200,), generator=generator())  # as it is drawn
    for kind in GEOMETRIC:
        chosen = kinds == OPERATIONS.index(kind)
        agree = (moved[chosen, 0] > 120) == (moved_masks[chosen] == 3)
        assert agree.float().mean() > 0.97, kind
    assert torch.equal(moved_masks[kinds >= len(GEOMETRIC)], masks[kinds >= len(GEOMETRIC)])


@pytest.mark.parametrize(
    ("options", "named"),
    [({"operations": -1}, "operations=-1"), ({"operations": 1, "strength": 1.5}, r"strength=1\.5")],
)
def test_values_out_of_range_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BatchAugmentation(**options)
