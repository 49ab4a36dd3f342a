"""Labels computed from images of handwriting: the thickness and the smoothness of the strokes."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def stroke_thickness(images: Tensor) -> Tensor:
    """Return the mean stroke width in pixels: twice the area divided by the length of the outline.

    A stroke of width w and length l has the area w·l and an outline of about 2·l. The area is the sum of the grey
    values, the outline their total variation.

    Args:
        images: uint8 (N, 1, H, W), light strokes on black.

    Returns:
        float32 (N,); 0 for an empty image.
    """
    ink = F.pad(images.float() / 255, (1, 1, 1, 1))  # (N, 1, H + 2, W + 2)
    down = ink[..., 1:, :-1] - ink[..., :-1, :-1]
    right = ink[..., :-1, 1:] - ink[..., :-1, :-1]
    outline = torch.hypot(down, right).sum(dim=(1, 2, 3))
    return 2 * ink.sum(dim=(1, 2, 3)) / outline.clamp(min=1e-6)


def outline_smoothness(images: Tensor) -> Tensor:
    """Return the smoothness of the outlines: minus the mean absolute curvature of the grey values' level lines.

    The curvature is the divergence of the gradient's direction, after a 5×5 binomial filter, weighted by the length of
    the gradient.

    Args:
        images: uint8 (N, 1, H, W), light strokes on black.

    Returns:
        float32 (N,), in radians per pixel, at most 0; near 0 for straight outlines.
    """
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    blurred = F.conv2d(images.float() / 255, torch.outer(row, row)[None, None], padding=4)  # (N, 1, H + 4, W + 4)
    y = (blurred[..., 2:, 1:-1] - blurred[..., :-2, 1:-1]) / 2
    x = (blurred[..., 1:-1, 2:] - blurred[..., 1:-1, :-2]) / 2
    length = torch.hypot(y, x)
    y, x = y / length.clamp(min=1e-6), x / length.clamp(min=1e-6)
    turn = (y[..., 2:, 1:-1] - y[..., :-2, 1:-1] + x[..., 1:-1, 2:] - x[..., 1:-1, :-2]) / 2
    weight = length[..., 1:-1, 1:-1]
    return -(turn.abs() * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp(min=1e-6)


ATTRIBUTES = {"thickness": stroke_thickness, "smoothness": outline_smoothness}


class AttributeLabels:
    """Bin attributes into classes of equal size at the quantiles of the training images.

    Args:
        num_classes: number of classes by name in `ATTRIBUTES`.
        train_images: uint8 (N, 1, H, W).

    Raises:
        ValueError: an attribute is unknown, or the images are not grey.
    """

    def __init__(self, num_classes: Mapping[str, int], train_images: Tensor) -> None:
        for name in num_classes:
            if name not in ATTRIBUTES:
                raise ValueError(f"num_classes.{name} is not an attribute: choose from {', '.join(ATTRIBUTES)}.")
        if train_images.shape[1] != 1:
            raise ValueError(
                f"Attributes are measured on grey images, but these have {train_images.shape[1]} channels."
            )
        self.edges = {
            name: torch.quantile(measure(name, train_images), torch.linspace(0, 1, count + 1)[1:-1])
            for name, count in num_classes.items()
        }

    def __call__(self, images: Tensor) -> Tensor:
        """Return the classes (N, attributes), int64, of uint8 images (N, 1, H, W)."""
        return torch.stack([torch.bucketize(measure(name, images), e) for name, e in self.edges.items()], dim=1)


def measure(name: str, images: Tensor) -> Tensor:
    """Compute an attribute (N,) of uint8 images (N, 1, H, W), in chunks that fit in a cache."""
    return torch.cat([ATTRIBUTES[name](part) for part in images.split(1024)])
