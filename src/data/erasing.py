"""Erase a part of each image: random erasing and cutout."""

import math

import torch
from torch import Tensor


def random_erasing(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Fill a rectangle of each image (B, C, H, W), with the given probability, with its mean colour."""
    batch, _, height, width = images.shape
    chosen, area, aspect, y, x = torch.rand(5, batch, 1, generator=generator)  # (B, 1) each
    area = 0.02 + 0.31 * area
    aspect = torch.exp((2 * aspect - 1) * math.log(3.3))
    rows = (area * aspect).sqrt().clamp(max=1) * height
    columns = (area / aspect).sqrt().clamp(max=1) * width
    rows = torch.where(chosen < probability, rows, 0.0)
    return erase(images, y * (height - rows), x * (width - columns), rows, columns)


def cutout(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Fill a square of each image (B, C, H, W) with its mean colour, clipped at the borders.

    Its centre is anywhere in the image (DeVries & Taylor 2017, arXiv 1708.04552). `size` is in pixels.
    """
    y, x = torch.rand(2, len(images), 1, generator=generator)  # (B, 1) each
    top, left = (y * images.shape[2]).floor() - size // 2, (x * images.shape[3]).floor() - size // 2
    return erase(images, top, left, torch.full_like(top, size), torch.full_like(left, size))


def erase(images: Tensor, top: Tensor, left: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Fill a rectangle of each image (B, C, H, W), in pixels (B, 1) from the top left, with its mean colour."""
    row, column = torch.arange(images.shape[2]) + 0.5, torch.arange(images.shape[3]) + 0.5  # the pixels' centres
    in_rows = (row >= top) & (row < top + rows)  # (B, H)
    in_columns = (column >= left) & (column < left + columns)  # (B, W)
    mean = images.float().mean(dim=(2, 3), keepdim=True).to(images.dtype)  # (B, C, 1, 1)
    return torch.where(in_rows[:, None, :, None] & in_columns[:, None, None, :], mean, images)
