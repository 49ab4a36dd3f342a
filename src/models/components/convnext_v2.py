"""ConvNeXt-V2: Co-designing and Scaling ConvNets with Masked Autoencoders (Woo et al. 2023, arXiv 2301.00808).

The block differs from ConvNeXt's: global response normalisation instead of LayerScale. Differences from the paper: the
stem of small images, see `convnext.py`, and no masked pre-training.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.models.components.convnext import Block, ConvNeXt
from src.models.components.layers import NumClasses


class GlobalResponseNorm(nn.Module):
    """Global response normalisation, section 3.2 of the paper, on channels-last (B, H, W, D).

    `G = ‖x‖₂` over H and W, `N = G / mean of G over the channels`; `gamma · (x · N) + beta + x`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, D) to (B, H, W, D)."""
        norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)  # (B, 1, 1, D)
        response = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)  # (B, 1, 1, D)
        return torch.addcmul(self.beta, self.gamma * response + 1, x)  # gamma · (x · N) + beta + x, read once


class ConvNeXtV2(ConvNeXt):
    """Patches, then stages of blocks, each at half the resolution of the one before.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; it determines the stem.
        num_classes: size of the output, or of each head's.
        depths: blocks in each stage.
        dims: channels in each stage.
        drop_path_rate: probability of skipping the last block; it rises linearly from 0 at the first.

    Raises:
        ValueError: a size below 1, an image too small for the stages, or lists of different lengths.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        depths: Sequence[int] = (2, 2, 6, 2),
        dims: Sequence[int] = (40, 80, 160, 320),
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            depths=depths,
            dims=dims,
            drop_path_rate=drop_path_rate,
            layer_scale=None,
        )

    def make_block(self, dim: int, drop_path_rate: float) -> Block:
        """Build a block of a stage."""
        return Block(dim, drop_path_rate, grn=GlobalResponseNorm(4 * dim))
