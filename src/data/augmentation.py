"""Augment whole batches by tensor operations, with random parameters for each image."""

import inspect
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.data.erasing import cutout, random_erasing
from src.data.random_operations import RandomOperations

Augmentation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


class BatchAugmentation:
    """Apply a random view, crop, flip, affine map, operations, erasing and cutout, in this order; all off by default.

    Masks are transformed as their images are, with nearest-neighbour interpolation, and never erased.

    Args:
        crop_padding: pixels of black border added on each side before cropping back to the image's size.
        horizontal_flip: probability of mirroring an image left to right.
        degrees: rotation is drawn from [-degrees, degrees].
        translate: shift along each axis is drawn from ± this fraction of the image's size.
        scale: the zoom factor is drawn from [1 - scale, 1 + scale].
        erasing: probability that a rectangle of 2-33 % of the area takes the image's mean colour
            (Zhong et al. 2017, arXiv 1708.04896).
        cutout: side in pixels of a square that takes the image's mean colour, in every image.
        operations: random operations for each image; see `RandomOperations`.
        strength: strength of the operations; None: drawn for each image.
        min_scale: a random crop is resized to the image's size: its area is drawn from [min_scale, 1] of the image's,
            its aspect ratio from [3/4, 4/3] (Szegedy et al. 2014, arXiv 1409.4842).
        mask_fill: class of mask pixels from outside the image, where the image is black.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        crop_padding: int = 0,
        horizontal_flip: float = 0.0,
        degrees: float = 0.0,
        translate: float = 0.0,
        scale: float = 0.0,
        erasing: float = 0.0,
        cutout: int = 0,
        operations: int = 0,
        strength: float | None = None,
        min_scale: float = 1.0,
        mask_fill: int = 0,
    ) -> None:
        for name, probability in {"horizontal_flip": horizontal_flip, "erasing": erasing}.items():
            if not 0 <= probability <= 1:
                raise ValueError(f"{name}={probability} is a probability and must be in [0, 1].")
        ranges = {"crop_padding": crop_padding, "degrees": degrees, "translate": translate, "scale": scale}
        ranges |= {"cutout": cutout, "operations": operations}
        for name, value in ranges.items():
            if value < 0:
                raise ValueError(f"{name}={value} must not be negative.")
        if not 0 < min_scale <= 1:
            raise ValueError(f"min_scale={min_scale} is a share of the image's area and must be in (0, 1].")
        if scale >= 1:
            raise ValueError(f"scale={scale} must be less than 1: images are zoomed by 1 ± scale.")
        if strength is not None and not operations:
            raise ValueError(f"strength={strength} is for random operations, but there are none: set operations.")
        self.crop_padding = crop_padding
        self.horizontal_flip = horizontal_flip
        self.degrees, self.translate, self.scale = degrees, translate, scale
        self.erasing, self.cutout = erasing, cutout
        self.operations = RandomOperations(operations, strength) if operations else None
        self.min_scale, self.mask_fill = min_scale, mask_fill

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            images: (B, C, H, W), uint8 or float; interpolation turns uint8 into float32 in [0, 255].
            targets: labels (B,) or (B, heads), returned unchanged, or masks (B, H, W) of classes below 2^24.
            generator: source of all randomness.

        Raises:
            ValueError: the targets have an unsupported shape, or a type that cannot hold `mask_fill`.
        """
        if targets.ndim > 2 and self.moves_pixels:
            targets = self._move_masks(images, targets, generator.clone_state())  # with the draws of the images
        return self.after_view(self._view(images, generator), generator), targets

    @property
    def moves_pixels(self) -> bool:
        """Whether any part except erasing and cutout is on."""
        moves = self.degrees or self.translate or self.scale or self.operations
        return bool(self.min_scale < 1 or self.crop_padding or self.horizontal_flip or moves)

    def after_view(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Apply all but the random view to images (B, C, H, W); photographs get their view when they are read."""
        images = self._move(images, generator)
        if self.erasing:
            images = random_erasing(images, self.erasing, generator)
        return cutout(images, self.cutout, generator) if self.cutout else images

    def _view(self, images: Tensor, generator: torch.Generator, mode: str = "bilinear") -> Tensor:
        return random_view(images, self.min_scale, generator, mode) if self.min_scale < 1 else images

    def _move(self, images: Tensor, generator: torch.Generator, mode: str = "bilinear") -> Tensor:
        if self.crop_padding:
            images = random_crop(images, self.crop_padding, generator)
        if self.horizontal_flip:
            images = random_flip(images, self.horizontal_flip, generator)
        if self.degrees or self.translate or self.scale:
            images = random_affine(images, self.degrees, self.translate, self.scale, generator, mode)
        if self.operations:
            images = self.operations(images, generator, mode)
        return images

    def _move_masks(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
        if masks.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                f"Targets of shape {tuple(masks.shape)} cannot follow images of shape {tuple(images.shape)}: give "
                "labels (B,) or (B, heads), or masks (B, H, W), or set data/augmentation=none."
            )
        if torch.tensor(self.mask_fill).to(masks.dtype).item() != self.mask_fill:
            raise ValueError(f"mask_fill={self.mask_fill} does not fit masks of {masks.dtype}: choose another class.")
        moved = masks.float()[:, None] - self.mask_fill  # (B, 1, H, W); outside the image is 0
        moved = self._move(self._view(moved, generator, "nearest"), generator, "nearest") + self.mask_fill
        return moved[:, 0].to(masks.dtype)


def check_augmentation(augmentation: Augmentation | None) -> None:
    """Raise ValueError unless a function takes images, targets and a generator."""
    if augmentation is None:
        return
    signature = inspect.signature(augmentation.forward if isinstance(augmentation, nn.Module) else augmentation)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [one for one in signature.parameters.values() if one.kind in positional and one.default is one.empty]
    if len(required) != 3:
        raise ValueError(
            f"data.augmentation takes {signature}, but must take (images, targets, generator) and return images and "
            "targets."
        )


def random_parts(
    count: int, height: int, width: int, min_scale: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw crops of an image of `height` × `width` pixels: left, top, width and height, (count,) each.

    A crop that exceeds the image is scaled down, keeping its aspect ratio.
    """
    share, aspect, x, y = torch.rand(4, count, generator=generator)
    area = (min_scale + (1 - min_scale) * share) * height * width
    aspect = torch.exp((2 * aspect - 1) * math.log(4 / 3))
    columns, rows = (area * aspect).sqrt(), (area / aspect).sqrt()
    fit = torch.minimum(width / columns, height / rows).clamp(max=1)
    columns, rows = (columns * fit).clamp(max=width), (rows * fit).clamp(max=height)  # rounding may exceed
    return x * (width - columns), y * (height - rows), columns, rows


def random_view(images: Tensor, min_scale: float, generator: torch.Generator, mode: str = "bilinear") -> Tensor:
    """Resize a random crop of each image (B, C, H, W) to the image's size; `mode` is bilinear or nearest."""
    height, width = images.shape[2:]
    left, top, columns, rows = random_parts(len(images), height, width, min_scale, generator)
    scale_x, scale_y = columns / width, rows / height
    zero = torch.zeros_like(left)
    # grid coordinates run over [-1, 1]: the part's centre lies at 2 · centre / size - 1
    theta = [scale_x, zero, 2 * left / width + scale_x - 1, zero, scale_y, 2 * top / height + scale_y - 1]
    grid = F.affine_grid(torch.stack(theta, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode, padding_mode="border", align_corners=False)


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad images (B, C, H, W) with black by `padding` on all sides and crop each at random."""
    batch, _, height, width = images.shape
    padded = F.pad(images, [padding] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p+1, 2p+1, H, W), a view
    top, left = torch.randint(2 * padding + 1, (2, batch), generator=generator)
    return windows[torch.arange(batch), :, top, left]  # (B, C, H, W)


def random_flip(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Mirror each image (B, C, H, W) left to right with the given probability."""
    flipped = torch.rand(len(images), 1, 1, 1, generator=generator) < probability
    return torch.where(flipped, images.flip(3), images)


def random_affine(
    images: Tensor,
    degrees: float,
    translate: float,
    scale: float,
    generator: torch.Generator,
    mode: str = "bilinear",
) -> Tensor:
    """Rotate, shift and zoom each image (B, C, H, W) about its centre; `mode` is bilinear or nearest."""
    angle, shift_x, shift_y, zoom = torch.rand(4, len(images), generator=generator) * 2 - 1  # (B,) each
    shifts = translate * shift_x, translate * shift_y
    return affine(images, angle * math.radians(degrees), 1 + zoom * scale, *shifts, mode)


def affine(
    images: Tensor, angle: Tensor, zoom: Tensor, shift_x: Tensor, shift_y: Tensor, mode: str = "bilinear"
) -> Tensor:
    """Rotate and zoom each image (B, C, H, W) about its centre, and shift it; empty areas are black.

    Args:
        images: the images.
        angle: (B,), in radians.
        zoom: (B,), the factor.
        shift_x: (B,), shift to the left, in widths.
        shift_y: (B,), upward shift, in heights.
        mode: bilinear or nearest.
    """
    zoom = 1 / zoom  # the grid maps output to input, hence the inverse
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    # grid coordinates run over [-1, 1]: a fraction of the image is twice as long there. In pixels the map is a
    # rotation; in these coordinates a non-square image needs its axes weighted by the aspect ratio.
    aspect = images.shape[2] / images.shape[3]
    rows = [cos, -sin * aspect, 2 * shift_x, sin / aspect, cos, 2 * shift_y]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images.float(), grid, mode, align_corners=False)
