"""Random operations on the images of a batch: TrivialAugment and RandAugment."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
LEVELS = 30  # number of strengths above 0
GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in the brightness (ITU-R 601)


@dataclass(frozen=True)
class Ranges:
    """The effect of the operations at full strength.

    Args:
        shear: shift of a row or column, per pixel of its distance from the top or left.
        translate: shift as a fraction of the image's size.
        max_pixels: largest shift in pixels.
        degrees: rotation.
        enhance: brightness, contrast, colour and sharpness are multiplied by 1 ± this.
        bits: bits that posterising removes from the 8 of each pixel.
    """

    shear: float
    translate: float
    max_pixels: float
    degrees: float
    enhance: float
    bits: int


WIDE = Ranges(shear=0.99, translate=1.0, max_pixels=32, degrees=135, enhance=0.99, bits=6)  # of TrivialAugment
NARROW = Ranges(shear=0.3, translate=150 / 331, max_pixels=math.inf, degrees=30, enhance=0.9, bits=4)  # of AutoAugment


class RandomOperations:
    """Apply random operations to each image.

    TrivialAugment (Müller & Hutter 2021, arXiv 2103.10158) applies one operation, with a strength drawn from wide
    ranges; RandAugment (Cubuk et al. 2019, arXiv 1909.13719) applies `count`, all of the same strength, in the narrower
    ranges of AutoAugment. The direction of a shift, a rotation or a change of brightness is drawn, too. Grey images
    have no colour to change: a drawn colour operation leaves them unchanged, as in Pillow.

    Args:
        count: operations for each image.
        strength: from 0, no change, to 1, the largest of AutoAugment's; None: drawn, as in TrivialAugment.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(self, count: int = 1, strength: float | None = None) -> None:
        if count < 1:
            raise ValueError(f"operations={count} must be at least 1, or 0 for none.")
        if strength is not None and not 0 <= strength <= 1:
            raise ValueError(f"strength={strength} must be in [0, 1], or null to draw it for each image.")
        self.count, self.strength = count, strength

    def __call__(self, images: Tensor, generator: torch.Generator, mode: str = "bilinear") -> Tensor:
        """Change images (B, C, H, W) from 0 to 255; return floats.

        With the mode "nearest" they are masks, to which only shifts, shears and rotations apply.
        """
        for _ in range(self.count):
            kinds = torch.randint(len(OPERATIONS), (len(images),), generator=generator)  # (B,)
            level, sign = torch.rand(2, len(images), generator=generator)  # (B,) each
            drawn = (level * (LEVELS + 1)).floor() / LEVELS if self.strength is None else self.strength
            strengths = drawn * torch.where(sign < 0.5, -1.0, 1.0)  # (B,)
            images = operate(images, kinds, strengths, WIDE if self.strength is None else NARROW, mode)
        return images


def operate(images: Tensor, kinds: Tensor, strengths: Tensor, ranges: Ranges, mode: str = "bilinear") -> Tensor:
    """Apply an operation to each image; images with the same operation are processed together.

    Args:
        images: (B, C, H, W), from 0 to 255.
        kinds: the number of each image's operation in `OPERATIONS`, (B,).
        strengths: in [-1, 1], (B,).
        ranges: the effect at full strength.
        mode: "bilinear", or "nearest" for masks, to which only geometric operations apply.

    Returns:
        float32 (B, C, H, W).
    """
    result = images.to(torch.float32, copy=True)
    moved = (kinds < len(GEOMETRIC)).nonzero().flatten()
    if len(moved):
        matrices = affine_matrices(kinds[moved], strengths[moved], ranges, images.shape[2], images.shape[3])
        part = result.index_select(0, moved)
        grid = F.affine_grid(matrices, list(part.shape), align_corners=False)  # (n, H, W, 2)
        result.index_copy_(0, moved, F.grid_sample(part, grid, mode, align_corners=False))
    if mode == "nearest":
        return result
    for kind, change in enumerate(PIXEL_OPERATIONS.values(), start=len(GEOMETRIC)):
        chosen = (kinds == kind).nonzero().flatten()
        if change is not None and len(chosen):
            strength = strengths[chosen].view(-1, 1, 1, 1)
            result.index_copy_(0, chosen, change(result.index_select(0, chosen), strength, ranges))
    return result


def affine_matrices(kinds: Tensor, strengths: Tensor, ranges: Ranges, height: int, width: int) -> Tensor:
    """Return the maps (n, 2, 3) from output to input, in grid coordinates, of n geometric operations.

    Images are rotated about their centres, sheared from their top or left sides, and shifted by whole pixels.
    """

    def amount(name: str, largest: float) -> Tensor:
        return torch.where(kinds == GEOMETRIC.index(name), largest * strengths, 0.0)  # (n,)

    shear_x, shear_y = amount("shear_x", ranges.shear), amount("shear_y", ranges.shear)
    shift_x = amount("translate_x", min(ranges.translate * width, ranges.max_pixels)).round()
    shift_y = amount("translate_y", min(ranges.translate * height, ranges.max_pixels)).round()
    angle = amount("rotate", math.radians(ranges.degrees))
    cos, sin = torch.cos(angle), torch.sin(angle)
    aspect = height / width  # grid coordinates run over [-1, 1] along both axes, however long they are
    x = [cos, (shear_x - sin) * aspect, shear_x * aspect - 2 * shift_x / width]
    y = [(shear_y + sin) / aspect, cos, shear_y / aspect - 2 * shift_y / height]
    return torch.stack(x + y, dim=1).view(-1, 2, 3)


# ---- operations on pixels: of images (n, C, H, W) from 0 to 255, with strengths (n, 1, 1, 1) in [-1, 1]


def enhance(images: Tensor, without: Tensor | float, strength: Tensor, ranges: Ranges) -> Tensor:
    """Multiply the difference of images from `without` (n, C or 1, H or 1, W or 1) by 1 ± strength."""
    return (without + (1 + ranges.enhance * strength) * (images - without)).clamp(0, 255)


def grey(images: Tensor) -> Tensor:
    """Return the brightness (n, 1, H, W) of RGB or grey images."""
    return images if images.shape[1] == 1 else (images * images.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)


def brightness(images: Tensor, strength: Tensor, ranges: Ranges) -> Tensor:
    """Make images lighter or darker."""
    return enhance(images, 0.0, strength, ranges)


def contrast(images: Tensor, strength: Tensor, ranges: Ranges) -> Tensor:
    """Move pixels away from the mean brightness of their image, or towards it."""
    return enhance(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), strength, ranges)


def colour(images: Tensor, strength: Tensor, ranges: Ranges) -> Tensor:
    """Move pixels away from the grey of their brightness, or towards it."""
    return images if images.shape[1] == 1 else enhance(images, grey(images), strength, ranges)


def sharpness(images: Tensor, strength: Tensor, ranges: Ranges) -> Tensor:
    """Move pixels away from a weighted mean of their neighbourhood, or towards it; those at the border stay."""
    smooth = images.clone()
    inner = smooth[:, :, 1:-1, 1:-1]
    if inner.numel():
        inner.mul_(4 / 13).add_(F.avg_pool2d(images, 3, stride=1), alpha=9 / 13)  # 5 for the pixel, 1 for each other
    return enhance(images, smooth, strength, ranges)


def posterize(images: Tensor, strength: Tensor, ranges: Ranges) -> Tensor:
    """Keep the highest bits of each pixel."""
    step = torch.exp2((ranges.bits * strength.abs()).round())
    return (images / step).floor() * step


def solarize(images: Tensor, strength: Tensor, ranges: Ranges) -> Tensor:
    """Invert pixels that are at least as bright as a threshold, which falls with the strength."""
    threshold = 255 * (1 - strength.abs()) - 1e-3  # so that rounding does not exclude a pixel equal to it
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: Tensor, strength: Tensor, ranges: Ranges) -> Tensor:
    """Stretch each channel to the range from 0 to 255, regardless of the strength."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)  # (n, C, 1, 1)
    return torch.where(high > low, (images - low) * (255 / (high - low).clamp(min=1e-6)), images).clamp(0, 255)


def equalize(images: Tensor, strength: Tensor, ranges: Ranges) -> Tensor:
    """Equalise the histogram of each channel as Pillow does, regardless of the strength."""
    values = images.round().long().flatten(2)  # (n, C, HW)
    counts = values.new_zeros(*values.shape[:2], 256).scatter_add_(2, values, torch.ones_like(values))
    of_brightest = counts.gather(2, values.amax(dim=2, keepdim=True))  # (n, C, 1)
    step = (values.shape[2] - of_brightest) // 255
    table = (counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)  # (n, C, 256)
    spread = table.clamp(max=255).gather(2, values).view_as(images).float()
    return torch.where(step[..., None] > 0, spread, images)


PixelOperation = Callable[[Tensor, Tensor, Ranges], Tensor]
PIXEL_OPERATIONS: dict[str, PixelOperation | None] = {
    "identity": None,
    "brightness": brightness,
    "colour": colour,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
OPERATIONS = (*GEOMETRIC, *PIXEL_OPERATIONS)
