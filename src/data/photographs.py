"""Photographs of any size, read from disk and converted to inputs of one size."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.utils.data import Dataset

from src.data.augmentation import BatchAugmentation, random_parts
from src.predictor import fit_image, read_image

RESIZE = "centre_crop"
Augmentation = BatchAugmentation | Callable[[Image], Image | Tensor]
View = Callable[[Image, int | None], Tensor]  # maps a photograph and an optional seed to pixels (C, H, W) in [0, 255]


class Photographs(Dataset[tuple[Tensor, int]]):
    """Image files and their labels, indexed by (index, seed).

    Args:
        samples: files and labels.
        mode: "L" (grey) or "RGB".
        view: transforms a photograph to pixels.
        mean: mean of the pixels for each channel, in [0, 1].
        std: standard deviation of the pixels for each channel, in [0, 1].
    """

    def __init__(
        self, samples: Sequence[tuple[Path, int]], mode: str, view: View, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.samples, self.mode, self.view = samples, mode, view
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index_and_seed: tuple[int, int | None]) -> tuple[Tensor, int]:
        index, seed = index_and_seed
        path, label = self.samples[index]
        pixels = self.view(read_image(path, self.mode), seed).float() / 255  # (C, H, W)
        return (pixels - self.mean) / self.std, label


def centre(photo: Image, seed: int | None, image_size: int) -> Tensor:
    """Return the pixels (C, H, W) of the centre crop of a photograph; the seed is not used."""
    return to_pixels(fit_image(photo, RESIZE, image_size))


def augmented(photo: Image, seed: int | None, image_size: int, augmentation: Augmentation) -> Tensor:
    """Return the augmented pixels (C, H, W) of a photograph, determined by the seed; its centre crop without a seed."""
    if seed is None:
        return centre(photo, seed, image_size)
    if not isinstance(augmentation, BatchAugmentation):
        with torch.random.fork_rng(devices=[]):  # transforms of torchvision draw from the global state
            torch.manual_seed(seed)
            return to_pixels(augmentation(photo))
    generator = torch.Generator().manual_seed(seed)
    if augmentation.min_scale < 1:
        pixels = to_pixels(random_part(photo, augmentation.min_scale, image_size, generator))
    else:
        pixels = centre(photo, seed, image_size)
    return augmentation.after_view(pixels[None], generator)[0]


def random_part(photo: Image, min_scale: float, image_size: int, generator: torch.Generator) -> Image:
    """Resize a random crop of a photograph, at least `min_scale` of its area, to a square of `image_size`."""
    parts = random_parts(1, photo.height, photo.width, min_scale, generator)
    left, top, width, height = (drawn.item() for drawn in parts)
    box = (left, top, min(left + width, photo.width), min(top + height, photo.height))
    return photo.resize((image_size, image_size), Resampling.BILINEAR, box)


def to_pixels(image: Image | Tensor) -> Tensor:
    """Return the pixels (C, H, W), from 0 to 255, of a grey or an RGB image."""
    if isinstance(image, Tensor):  # from a torchvision transform: uint8, or floats in [0, 1]
        return image if image.dtype == torch.uint8 else image * 255
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)
