"""Images as sequences of their rows or of their pixels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ImageSequences:
    """Split images into steps: their values, row by row from the top, with the channels of a pixel together.

    Args:
        length: steps of a sequence.
        features: values of a step: a row, a pixel, or any other part of the image.
        channels: channels of the images.
        image_size: height and width of the images.
        permutation_seed: seed of an order of the steps, the same for all images (Le et al. 2015, arXiv 1504.00941);
            None: unchanged.

    Raises:
        ValueError: the steps do not add up to an image, or a step splits the channels of a pixel.
    """

    def __init__(
        self, length: int, features: int, channels: int, image_size: int, permutation_seed: int | None = None
    ) -> None:
        values = channels * image_size**2
        if min(length, features) < 1 or length * features != values:
            raise ValueError(
                f"length={length} steps of features={features} are not the {values} values of an image of "
                f"channels={channels} and image_size={image_size}."
            )
        if features % channels:
            raise ValueError(f"features={features} must be a multiple of channels={channels}.")
        self.length, self.features, self.channels = length, features, channels
        self.order: Tensor | None = None  # (length,)
        if permutation_seed is not None:
            self.order = torch.randperm(length, generator=torch.Generator().manual_seed(permutation_seed))

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to sequences (B, length, features)."""
        steps = images.permute(0, 2, 3, 1).reshape(len(images), self.length, self.features)
        return steps if self.order is None else steps[:, self.order]

    def input_card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """Describe the sequences, given the description of the images; their values are pixels from 0 to 255."""
        copies = self.features // self.channels
        statistics = {name: [255 * value for value in card[name]] * copies for name in ("mean", "std")}
        return {
            "input": "series",
            "length": self.length,
            "features": self.features,
            **statistics,
            "heads": card["heads"],
        }
