"""Augmentation: each part follows its argument, with a separate draw for every image."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from src.data.augmentation import (
    BatchAugmentation,
    random_affine,
    random_crop,
    random_flip,
    random_parts,
    random_view,
)
from src.data.erasing import cutout, random_erasing

PARTS: dict[str, dict[str, Any]] = {
    "crop": {"crop_padding": 3},
    "flip": {"horizontal_flip": 0.5},
    "rotation": {"degrees": 30},
    "translation": {"translate": 0.2},
    "zoom": {"scale": 0.3},
    "operations": {"operations": 1},
    "cutout": {"cutout": 4},
    "erasing": {"erasing": 0.9},
    "view": {"min_scale": 0.35},
    "all": {
        "min_scale": 0.5,
        "crop_padding": 2,
        "horizontal_flip": 0.5,
        "degrees": 10,
        "translate": 0.1,
        "scale": 0.1,
        "erasing": 0.5,
    },
}
every_part = pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(images: Tensor, seed: int = 0, **options: Any) -> Tensor:
    """Return the augmented images; labels do not change."""
    labels = torch.arange(len(images))
    results, same = BatchAugmentation(**options)(images, labels, generator(seed))
    assert torch.equal(same, torch.arange(len(images)))
    return results


def noise(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=generator(99), dtype=torch.uint8)


def dots(batch: int, height: int, width: int, x: int = 0, y: int = 0) -> Tensor:
    """Make black images of odd sizes with a white 3×3 dot, offset by (x, y) from the centre."""
    images = torch.zeros(batch, 1, height, width)
    row, column = height // 2 + y, width // 2 + x
    images[:, :, row - 1 : row + 2, column - 1 : column + 2] = 255
    return images


def positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the offset of each image's centre of gravity from its centre, in pixels: x and y."""
    _, _, height, width = images.shape
    weights = images[:, 0] / images.sum(dim=(1, 2, 3)).view(-1, 1, 1)
    x = (weights.sum(1) * (torch.arange(width) - (width - 1) / 2)).sum(1)
    y = (weights.sum(2) * (torch.arange(height) - (height - 1) / 2)).sum(1)
    return x, y


# ---- the whole


def test_nothing_happens_at_the_defaults() -> None:
    images = noise(4, 3, 8, 8)
    assert torch.equal(augment(images), images)


@every_part
def test_every_image_has_its_own_draw(options: dict[str, Any]) -> None:
    images = noise(1, 3, 16, 16).expand(32, -1, -1, -1)
    results = augment(images, **options).flatten(1).unique(dim=0)
    assert len(results) >= (2 if options.keys() == {"horizontal_flip"} else 16)


@every_part
def test_the_generator_alone_decides(options: dict[str, Any]) -> None:
    images = noise(32, 1, 16, 16)
    torch.manual_seed(1)
    first = augment(images, 5, **options)
    torch.manual_seed(2)
    assert torch.equal(augment(images, 5, **options), first)
    assert not torch.equal(augment(images, 6, **options), first)


@every_part
@pytest.mark.parametrize("shape", [(6, 1, 12, 12), (6, 3, 9, 14)], ids=str)
def test_the_shape_is_kept_and_the_input_left_alone(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    images = noise(*shape)
    before = images.clone()
    assert augment(images, **options).shape == shape
    assert torch.equal(images, before)


@pytest.mark.parametrize("part", ["crop", "flip", "erasing", "cutout"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_the_type_is_kept_where_no_pixel_is_interpolated(part: str, dtype: torch.dtype) -> None:
    images = noise(6, 3, 12, 12).to(dtype)
    assert augment(images, **PARTS[part]).dtype == dtype


@pytest.mark.parametrize("part", ["rotation", "translation", "zoom", "view"])
def test_an_affine_map_makes_floats_of_the_same_range(part: str) -> None:
    result = augment(torch.full((16, 1, 12, 12), 200, dtype=torch.uint8), **PARTS[part])
    assert result.dtype == torch.float32
    assert result.max() == pytest.approx(200, abs=0.01)
    assert result.min() >= 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("horizontal_flip", 1.1),
        ("horizontal_flip", -0.1),
        ("erasing", 2),
        ("erasing", -1),
        ("crop_padding", -1),
        ("degrees", -5),
        ("translate", -0.1),
        ("scale", -0.1),
        ("min_scale", 0),
        ("min_scale", 1.5),
        ("cutout", -2),
        ("strength", 0.5),  # of no operations
    ],
)
def test_an_impossible_value_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} "):
        BatchAugmentation(**{name: value})


# ---- crop and flip


def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_occur() -> None:
    image = noise(1, 2, 5, 7)
    padded = F.pad(image, [2] * 4)
    windows = [padded[0, :, y : y + 5, x : x + 7] for y in range(5) for x in range(5)]
    found = set()
    for crop in random_crop(image.expand(500, -1, -1, -1), 2, generator()):
        matches = [number for number, window in enumerate(windows) if torch.equal(crop, window)]
        assert len(matches) == 1
        found.update(matches)
    assert found == set(range(25))


def test_a_sure_flip_is_a_mirror_image() -> None:
    images = noise(4, 3, 5, 6)
    flipped = random_flip(images, 1.0, generator())
    assert torch.equal(flipped, torch.stack([image[:, :, [5, 4, 3, 2, 1, 0]] for image in images]))


def test_an_image_is_mirrored_as_often_as_the_probability_says() -> None:
    images = noise(1, 1, 4, 4).expand(1000, -1, -1, -1)
    changed = (random_flip(images, 0.2, generator()) != images).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.2, abs=0.04)


# ---- random views


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 60), (700, 3), (1, 1)])
def test_a_part_lies_within_its_image_and_has_the_shape_that_is_asked_for(height: int, width: int) -> None:
    left, top, columns, rows = random_parts(20_000, height, width, 0.35, generator())
    assert left.min() >= 0 and top.min() >= 0
    assert (left + columns).max() <= width * 1.000001 and (top + rows).max() <= height * 1.000001
    assert (columns / rows).min() == pytest.approx(3 / 4, rel=0.01)
    assert (columns / rows).max() == pytest.approx(4 / 3, rel=0.01)
    if height == width:
        assert (columns * rows).min() == pytest.approx(0.35 * height * width, rel=0.02)
        assert (columns * rows).max() == pytest.approx(height * width, rel=0.02)
        assert left.mean() == pytest.approx((width - columns).mean().item() / 2, rel=0.03)  # as often left as right


def test_a_view_is_a_part_of_the_image_stretched_to_the_whole() -> None:
    """On a ramp the view's values are its pixels' places in the image, which are those of the drawn part."""
    x = (torch.arange(12) + 0.5).expand(9, 12)
    y = (torch.arange(9) + 0.5)[:, None].expand(9, 12)
    views = random_view(torch.stack([x, y]).expand(50, 2, 9, 12), 0.2, generator(3))
    for view, *part in zip(views, *random_parts(50, 9, 12, 0.2, generator(3)), strict=True):
        left, top, columns, rows = (value.item() for value in part)
        expected_x = left + columns * (torch.arange(12) + 0.5) / 12
        expected_y = top + rows * (torch.arange(9) + 0.5) / 9
        expected = torch.stack([expected_x.expand(9, 12), expected_y[:, None].expand(9, 12)])
        # beyond the centre of the outermost pixels a ramp cannot be read
        torch.testing.assert_close(view[0], expected[0].clamp(0.5, 11.5), atol=1e-3, rtol=0)
        torch.testing.assert_close(view[1], expected[1].clamp(0.5, 8.5), atol=1e-3, rtol=0)


def test_everything_is_seen_without_a_random_view() -> None:
    images = noise(4, 3, 9, 14)
    assert torch.equal(augment(images, min_scale=1.0), images)


# ---- affine maps


def test_zero_ranges_map_an_image_onto_itself() -> None:
    images = noise(4, 3, 9, 14)
    torch.testing.assert_close(random_affine(images, 0, 0, 0, generator()), images.float(), atol=1e-2, rtol=0)


def test_a_shift_is_drawn_from_both_sides_of_each_axis_up_to_its_fraction_of_the_size() -> None:
    x, y = positions(random_affine(dots(500, 41, 61), 0, 0.2, 0, generator()))
    for shift, size in ((x, 61), (y, 41)):
        assert shift.max() == pytest.approx(0.2 * size, rel=0.03)
        assert shift.min() == pytest.approx(-0.2 * size, rel=0.03)
    assert torch.corrcoef(torch.stack([x, y]))[0, 1].abs() < 0.1  # the axes have draws of their own


def test_what_is_shifted_in_from_outside_is_black() -> None:
    results = random_affine(torch.full((50, 1, 12, 12), 255.0), 0, 0.5, 0, generator())
    assert set(results.unique().round().tolist()) >= {0, 255}
    assert (results.amin(dim=(1, 2, 3)) == 0).float().mean() > 0.8


@pytest.mark.parametrize(("x", "y"), [(9, 0), (0, 9)])
@pytest.mark.parametrize(("height", "width"), [(31, 31), (31, 61), (61, 31)])
def test_a_rotation_keeps_distances_and_turns_up_to_its_angle_on_any_shape(
    height: int, width: int, x: int, y: int
) -> None:
    new_x, new_y = positions(random_affine(dots(500, height, width, x, y), 40, 0, 0, generator()))
    torch.testing.assert_close(torch.hypot(new_x, new_y), torch.full((500,), 9.0), atol=0.1, rtol=0)
    angles = torch.rad2deg(torch.atan2(x * new_y - y * new_x, x * new_x + y * new_y))
    assert angles.max() == pytest.approx(40, abs=1.5)
    assert angles.min() == pytest.approx(-40, abs=1.5)


@pytest.mark.parametrize(("x", "y"), [(8, 0), (0, 8)])
def test_a_zoom_scales_distances_by_its_factor(x: int, y: int) -> None:
    new_x, new_y = positions(random_affine(dots(500, 41, 41, x, y), 0, 0, 0.4, generator()))
    factors = torch.hypot(new_x, new_y) / 8
    assert factors.max() == pytest.approx(1.4, abs=0.02)
    assert factors.min() == pytest.approx(0.6, abs=0.02)
    assert factors.mean() == pytest.approx(1, abs=0.03)  # as often larger as smaller


# ---- erasing


def black_and_white(batch: int, height: int, width: int) -> Tensor:
    """Make images in which no pixel has the mean colour, so that erased pixels can be found."""
    return 255 * (noise(batch, 3, height, width) % 2)


def test_erasing_fills_one_rectangle_of_each_image_with_its_mean() -> None:
    images = black_and_white(300, 20, 30)
    results = random_erasing(images, 1.0, generator())
    for image, result in zip(images, results, strict=True):
        changed = image != result
        assert torch.equal(changed[0], changed[1]) and torch.equal(changed[0], changed[2])
        rows, columns = changed[0].any(1).nonzero(), changed[0].any(0).nonzero()
        inside = (slice(None), slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        assert changed[inside].all()
        mean = image.float().mean(dim=(1, 2)).floor().view(3, 1, 1)
        assert torch.equal(result[inside].float(), mean.expand_as(result[inside]))


def test_a_rectangle_takes_2_to_33_percent_of_the_area() -> None:
    images = black_and_white(1000, 100, 100)
    shares = (random_erasing(images, 1.0, generator()) != images)[:, 0].float().mean(dim=(1, 2))
    assert shares.min() == pytest.approx(0.02, abs=0.005)
    assert shares.max() == pytest.approx(0.33, abs=0.02)


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_an_image_is_erased_as_often_as_the_probability_says(probability: float) -> None:
    images = black_and_white(1000, 12, 12)
    changed = (random_erasing(images, probability, generator()) != images).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(probability, abs=0.04)
    assert probability or not changed.any()


def test_erasing_reaches_opposite_borders_alike() -> None:
    images = black_and_white(2000, 16, 16)
    erased = (random_erasing(images, 1.0, generator()) != images)[:, 0]
    for lines in (erased.any(2), erased.any(1)):  # rows, columns
        first, *_, last = lines.float().mean(0).tolist()
        assert first == pytest.approx(last, abs=0.04)


def test_cutout_fills_a_square_around_a_point_anywhere_and_borders_cut_it() -> None:
    """Each of 12 places along an axis is its centre; a square in the middle is whole."""
    images = black_and_white(2000, 12, 12)
    erased = (cutout(images, 6, generator()) != images)[:, 0]
    rows, columns = erased.any(2).sum(1), erased.any(1).sum(1)  # (B,): height and width in pixels
    assert torch.equal(erased.sum(dim=(1, 2)), rows * columns)
    for sides in (rows, columns):
        assert sides.unique().tolist() == [3, 4, 5, 6]
        assert (sides == 6).float().mean() == pytest.approx(7 / 12, abs=0.04)
    assert (erased.float().mean(0) > 0.05).all()
