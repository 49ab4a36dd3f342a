"""A ConvNet for the 2020s (Liu et al. 2022, arXiv 2201.03545): ConvNeXt, whose blocks ConvNeXt-V2 shares.

Differences from the paper: images below 64 px get a stem of 2×2 patches instead of 4×4, because they have no
detail to spare.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from src.models.components.layers import (
    DepthwiseConv2d,
    Logits,
    NumClasses,
    check_images,
    check_positive,
    drop_path_rates,
    make_head,
)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Depthwise conv → LayerNorm → Linear → GELU → GRN in V2 → Linear → LayerScale in V1, added to the input."""

    def __init__(
        self, dim: int, drop_path_rate: float, grn: nn.Module | None = None, layer_scale: float | None = None
    ) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), layer_scale)) if layer_scale else None
        self.depthwise = DepthwiseConv2d(dim, kernel_size=7)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, 4 * dim)
        self.activation = nn.GELU()
        self.grn = grn or nn.Identity()
        self.project = nn.Linear(4 * dim, dim)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W) to (B, D, H, W)."""
        y = self.depthwise(x).permute(0, 2, 3, 1)  # (B, H, W, D)
        y = self.grn(self.activation(self.expand(self.norm(y))))  # (B, H, W, 4 D)
        y = self.project(y)  # (B, H, W, D)
        if self.scale is not None:
            y = y * self.scale
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class ConvNeXt(nn.Module):
    """Patches, then stages of blocks, each at half the resolution of the one before. The defaults are ConvNeXt-Tiny.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; it determines the stem.
        num_classes: size of the output, or of each head's.
        depths: blocks in each stage.
        dims: channels in each stage.
        drop_path_rate: probability of skipping the last block; it rises linearly from 0 at the first.
        layer_scale: initial factor of every channel that a block adds; null: no LayerScale.

    Raises:
        ValueError: a size below 1, an image too small for the stages, or lists of different lengths.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        drop_path_rate: float = 0.0,
        layer_scale: float | None = 1e-6,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, depths=depths, dims=dims)
        if len(depths) != len(dims):
            raise ValueError(f"depths={depths} and dims={dims} must have the same length.")
        patch = 4 if image_size >= 64 else 2
        if image_size < patch * 2 ** (len(dims) - 1):
            raise ValueError(f"image_size={image_size} is too small to be halved for {len(dims)} stages.")
        self.in_channels, self.layer_scale = in_channels, layer_scale
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        stages: list[nn.Module] = []
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            if stage == 0:
                down = [nn.Conv2d(in_channels, dim, kernel_size=patch, stride=patch), LayerNorm2d(dim, eps=1e-6)]
            else:
                before = dims[stage - 1]
                down = [LayerNorm2d(before, eps=1e-6), nn.Conv2d(before, dim, kernel_size=2, stride=2)]
            stages.append(nn.Sequential(*down, *(self.make_block(dim, next(rates)) for _ in range(depth))))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.head = make_head(dims[-1], num_classes)
        self.apply(init_weights)

    def make_block(self, dim: int, drop_path_rate: float) -> Block:
        """Build a block of a stage."""
        return Block(dim, drop_path_rate, layer_scale=self.layer_scale)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels)
        x = self.stages(x)  # (B, D, H / 16, W / 16), or / 32 from 64 px up
        return self.head(self.norm(x.mean(dim=(2, 3))))  # (B, num_classes)


def init_weights(module: nn.Module) -> None:
    """Initialise as the authors' code does."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
