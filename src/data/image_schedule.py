"""Change training images during a run: until when they are augmented, how large they are, which are mirrored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ImageSchedule:
    """Decide, at the start of each epoch, how its images are served; by default the same in all epochs.

    Args:
        augment_until: fraction of the run after which images are no longer augmented.
        sizes: heights and widths, each for an equal part of the run (progressive resizing; Tan & Le 2021, arXiv
            2104.00298); None: unchanged.
        alternating_flip: mirror half of the images, and in the next epoch the others (Jordan 2024, arXiv 2404.00498).
        progress: returns the fraction of the run that is finished before an epoch, counted from 0.

    Raises:
        ValueError: a value is out of its range.
    """

    augment_until: float = 1.0
    sizes: Sequence[int] | None = None
    alternating_flip: bool = False
    progress: Callable[[int], float] = lambda epoch: 0.0  # without a trainer, a run does not end

    def __post_init__(self) -> None:
        if not 0 <= self.augment_until <= 1:
            raise ValueError(f"augment_until={self.augment_until} is a fraction of the run and must be in [0, 1].")
        if self.sizes is not None and min(self.sizes, default=0) < 1:
            raise ValueError(f"sizes={list(self.sizes)} must list at least one size, and none below 1.")

    def augments(self, epoch: int) -> bool:
        """Return whether the images of an epoch are augmented."""
        return self.augment_until == 1 or self.progress(epoch) < self.augment_until

    def size(self, epoch: int) -> int | None:
        """Return the height and width of an epoch's images; None: unchanged."""
        if self.sizes is None:
            return None
        part = int(self.progress(epoch) * len(self.sizes) + 1e-9)  # despite rounding, 1/3 of 3 parts is one
        return self.sizes[min(part, len(self.sizes) - 1)]

    def is_below_full_size(self, epoch: int) -> bool:
        """Return whether an epoch's images are smaller than those at the end of the run."""
        size, sizes = self.size(epoch), self.sizes
        return bool(size and sizes and size < sizes[-1])

    def resized(self, images: Tensor, targets: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Resize images (B, C, H, W), and masks (B, H, W), to the size of an epoch; labels (B, …) are unchanged."""
        size = self.size(epoch)
        if size is None or images.shape[2:] == (size, size):
            return images, targets
        images = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
        if targets.ndim == 3:
            targets = F.interpolate(targets[:, None].float(), (size, size), mode="nearest-exact")[:, 0].to(
                targets.dtype
            )
        return images, targets

    def flipped(
        self, images: Tensor, targets: Tensor, indices: Tensor, first: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Mirror the images (B, C, H, W) whose turn it is, and their masks (B, H, W), left to right.

        Args:
            images: (B, C, H, W).
            targets: (B, …).
            indices: the images' numbers in the data set (B,).
            first: whether each image of the data set (N,) is mirrored in even epochs; the others are in odd epochs.
            epoch: counted from 0.
        """
        mirrored = first.index_select(0, indices) != bool(epoch % 2)  # (B,)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        if targets.ndim == 3:
            targets = torch.where(mirrored.view(-1, 1, 1), targets.flip(2), targets)
        return images, targets
