"""Images for a net to restore: noisy (Vincent et al. 2008), or with masked patches (He et al. 2022, 2111.06377)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Draw = Callable[..., Tensor]  # torch.randn or torch.rand


def corrupt(
    images: Tensor, *, noise_std: float | Tensor, mask_fraction: float, patch_size: int, seeds: Sequence[int] | None
) -> Tensor:
    """Add noise to images (B, C, H, W), then set square patches of them to 0.

    Args:
        images: images (B, C, H, W) of any range.
        noise_std: standard deviation of the noise; a tensor (C, 1, 1) for a value per channel.
        mask_fraction: fraction of the patches that are masked, rounded to whole patches.
        patch_size: height and width of a patch.
        seeds: a seed for each image; None: torch's global generator is used.
    """
    batch, _, height, width = images.shape
    noisy = images + noise_std * draw(torch.randn, images.shape, seeds).to(images)
    rows, columns = math.ceil(height / patch_size), math.ceil(width / patch_size)
    order = draw(torch.rand, (batch, rows * columns), seeds).argsort(dim=1)  # (B, patches), a permutation
    masked = (order < round(mask_fraction * rows * columns)).view(batch, 1, rows, columns)
    pixels = masked.repeat_interleave(patch_size, 2).repeat_interleave(patch_size, 3)[..., :height, :width]
    return noisy.masked_fill(pixels.to(images.device), 0.0)  # (B, C, H, W)


def draw(distribution: Draw, shape: Sequence[int], seeds: Sequence[int] | None) -> Tensor:
    """Draw random numbers (B, …) of a shape: for each sample by its seed, or all from torch's global generator."""
    if seeds is None:
        return distribution(shape)
    generator = torch.Generator()
    return torch.stack([distribution(shape[1:], generator=generator.manual_seed(seed)) for seed in seeds])


def content_seeds(levels: Tensor) -> list[int]:
    """Return a seed for each image (B, C, H, W) of integers: a checksum of its values and their positions."""
    values = levels.flatten(1).long()  # (B, C · H · W)
    positions = torch.arange(1, values.shape[1] + 1, device=values.device)
    return (values * positions).sum(dim=1).tolist()
