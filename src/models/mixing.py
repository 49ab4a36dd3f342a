"""Mixup and CutMix: train on mixtures of two images, and of their labels."""

import torch
from torch import Tensor
from torch.distributions import Beta
from torch.nn import functional as F


class Mixing:
    """Mix each image of a batch with the one before it, and its label in proportion.

    Mixup (Zhang et al. 2017, arXiv 1710.09412) adds the two images, weighted by λ and 1 - λ; CutMix (Yun et al. 2019,
    arXiv 1905.04899) replaces a rectangle of 1 - λ of the area. λ ~ Beta(α, α) is drawn for each image.

    Args:
        num_classes: size of the output.
        mixup: α of mixup: 0.2 mixes little, at 1 λ is uniform in [0, 1]; 0 turns mixup off.
        cutmix: α of CutMix; 0 turns CutMix off. With both, each image is mixed by one of them, chosen at random.
        probability: probability of mixing an image.
        until: fraction of the run after which images are no longer mixed.

    Raises:
        ValueError: a value is out of its range, or the data have several labels for each image.
    """

    def __init__(
        self, num_classes: int, mixup: float = 0.0, cutmix: float = 0.0, probability: float = 1.0, until: float = 1.0
    ) -> None:
        if not isinstance(num_classes, int):
            raise ValueError(f"num_classes={num_classes}: only images with a single label can be mixed.")
        if min(mixup, cutmix) < 0 or max(mixup, cutmix) == 0:
            raise ValueError(f"mixup={mixup} and cutmix={cutmix} must not be negative, and one must be above 0.")
        for name, value in {"probability": probability, "until": until}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} must be in [0, 1].")
        self.num_classes, self.mixup, self.cutmix = num_classes, mixup, cutmix
        self.probability, self.until = probability, until

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch, with draws from torch's global generator.

        Args:
            images: (B, C, H, W), normalised.
            targets: labels (B,), or soft ones (B, num_classes).

        Returns:
            Images (B, C, H, W) and soft labels (B, num_classes).

        Raises:
            ValueError: the inputs are not images, or the targets are not image labels.
        """
        if images.ndim != 4 or targets.ndim > 2:
            raise ValueError(
                f"Inputs of shape {tuple(images.shape)} with targets of shape {tuple(targets.shape)} cannot be mixed: "
                "mixup and CutMix take labelled images; set model.mixing=null."
            )
        soft = targets if targets.ndim == 2 else F.one_hot(targets, self.num_classes).float()
        weights = self.draw_weights(len(images), *images.shape[2:]).to(images.device)  # (B, 1, H, W)
        share = weights.mean(dim=(1, 2, 3))[:, None]  # (B, 1): of each image in its mixture
        return images.roll(1, 0).lerp(images, weights.to(images.dtype)), soft.roll(1, 0).lerp(soft, share)

    def draw_weights(self, count: int, height: int, width: int) -> Tensor:
        """Draw the weight of each image in each pixel of its mixture: (count, 1, height, width), in [0, 1]."""
        mixed, cut = torch.rand(2, count, 1, 1, 1)
        mixed, cut = mixed < self.probability, cut < (0.5 if self.mixup and self.cutmix else float(self.cutmix > 0))
        weights = torch.ones(count, 1, height, width)
        if self.mixup:
            weights = torch.where(mixed & ~cut, Beta(self.mixup, self.mixup).sample((count, 1, 1, 1)), weights)
        if self.cutmix:
            share = Beta(self.cutmix, self.cutmix).sample((count, 1, 1, 1))
            weights = weights.masked_fill(mixed & cut & random_boxes(1 - share, height, width), 0.0)
        return weights


def random_boxes(area: Tensor, height: int, width: int) -> Tensor:
    """Mark a random rectangle in each image, with the image's aspect ratio and clipped at its borders.

    Args:
        area: fraction of the image, (B, 1, 1, 1), before clipping.
        height: height of the images in pixels.
        width: width of the images in pixels.

    Returns:
        bool (B, 1, height, width).
    """
    side = area.sqrt()
    centre_y, centre_x = torch.rand(2, *area.shape)
    rows = (torch.arange(height) + 0.5).view(1, 1, -1, 1) / height  # the pixels' centres, in [0, 1]
    columns = (torch.arange(width) + 0.5).view(1, 1, 1, -1) / width
    return ((rows - centre_y).abs() < side / 2) & ((columns - centre_x).abs() < side / 2)
