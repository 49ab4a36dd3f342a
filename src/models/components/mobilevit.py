"""MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer.

Mehta & Rastegari 2022, arXiv 2110.02178.

A feature map is unfolded into patches, attention runs between the pixels at the same position in all patches, and the
map is folded again: every pixel sees the whole image, while convolutions see what is within a patch.

Differences from the paper: below 64 px the stem keeps the resolution, so that the last map of 32 px images is 2×2; and
a map that is not a multiple of the patch size is resized to one that is, as in the authors' code.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from src.models.components.efficientnet import scale_channels
from src.models.components.layers import (
    MLP,
    Attention,
    DepthwiseConv2d,
    Dropout,
    Logits,
    NumClasses,
    check_images,
    check_positive,
    conv_norm,
    make_head,
    norm_after,
)


class InvertedResidual(nn.Module):
    """Expand 1×1 → depthwise 3×3 → project 1×1 (MobileNetV2, arXiv 1801.04381); added to its input if shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, expansion: float, stride: int) -> None:
        super().__init__()
        hidden = scale_channels(in_channels, expansion, 8)
        self.layers = nn.Sequential(
            conv_norm(in_channels, hidden, 1, activation=nn.SiLU),
            norm_after(DepthwiseConv2d(hidden, 3, stride, bias=False), nn.SiLU),
            conv_norm(hidden, out_channels, 1),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        y = self.layers(x)
        return x + y if self.residual else y


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP, each added to its input, on (B, N, D)."""

    def __init__(self, embed_dim: int, num_heads: int, mlp_ratio: float, dropout: float, drop_path_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attention = Attention(embed_dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = MLP(embed_dim, int(embed_dim * mlp_ratio), dropout)
        self.mlp[1] = nn.SiLU()
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D)."""
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class MobileViTBlock(nn.Module):
    """Convolutions, a transformer over the unfolded map, and a convolution of both together (figure 1b)."""

    def __init__(
        self,
        channels: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        patch_size: int,
        mlp_ratio: float,
        dropout: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.local = nn.Sequential(
            conv_norm(channels, channels, 3, activation=nn.SiLU),
            nn.Conv2d(channels, embed_dim, kernel_size=1, bias=False),
        )
        self.transformer = nn.Sequential(
            *(TransformerBlock(embed_dim, num_heads, mlp_ratio, dropout, drop_path_rate) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.project = conv_norm(embed_dim, channels, 1, activation=nn.SiLU)
        self.fuse = conv_norm(2 * channels, channels, 3, activation=nn.SiLU)
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        y = self.local(x)  # (B, D, H, W)
        height, width = y.shape[2:]
        rows, columns = (math.ceil(size / self.patch_size) for size in (height, width))
        divisible = (rows * self.patch_size, columns * self.patch_size)
        if divisible != (height, width):
            y = F.interpolate(y, size=divisible, mode="bilinear", align_corners=False)
        y = self.norm(self.transformer(unfold(y, self.patch_size)))  # (B · p², patches, D)
        y = fold(y, self.patch_size, rows, columns)  # (B, D, H, W)
        if divisible != (height, width):
            y = F.interpolate(y, size=(height, width), mode="bilinear", align_corners=False)
        return self.fuse(torch.cat((x, self.project(y)), dim=1))


def unfold(x: Tensor, patch_size: int) -> Tensor:
    """Map (B, D, H, W) to sequences (B · p², H · W / p², D) of the pixels at the same position in all patches."""
    batch, dim, height, width = x.shape
    rows, columns = height // patch_size, width // patch_size
    x = x.reshape(batch, dim, rows, patch_size, columns, patch_size)
    return x.permute(0, 3, 5, 2, 4, 1).reshape(batch * patch_size**2, rows * columns, dim)


def fold(x: Tensor, patch_size: int, rows: int, columns: int) -> Tensor:
    """Return the inverse of `unfold`, for a map of rows × columns patches."""
    dim = x.shape[2]
    x = x.reshape(-1, patch_size, patch_size, rows, columns, dim)
    return x.permute(0, 5, 3, 1, 4, 2).reshape(-1, dim, rows * patch_size, columns * patch_size)


class MobileViT(nn.Module):
    """A stem, two stages of inverted residuals, three that end with a MobileViT block, a 1×1 convolution, and a head.

    The defaults are MobileViT-XXS.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; below 64 the stem does not halve it.
        num_classes: size of the output, or of each head's.
        stem_channels: channels of the first convolution.
        dims: channels of the five stages.
        embed_dims: width of the tokens in the last three.
        depths: transformer blocks in the last three.
        expansion: expansion factor of the inverted residuals.
        num_heads: heads of the attention; must divide each of `embed_dims`.
        patch_size: side of a patch of the unfolded map.
        mlp_ratio: width of the MLP inside, as a multiple of the token's.
        head_channels: channels of the last convolution.
        dropout: probability of zeroing a value, in the transformers and before the head.
        drop_path_rate: probability of skipping a sublayer of a transformer.

    Raises:
        ValueError: a size below 1, lists of a wrong length, or tokens that the heads do not divide.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        stem_channels: int = 16,
        dims: Sequence[int] = (16, 24, 48, 64, 80),
        embed_dims: Sequence[int] = (64, 80, 96),
        depths: Sequence[int] = (2, 4, 3),
        expansion: float = 2.0,
        num_heads: int = 4,
        patch_size: int = 2,
        mlp_ratio: float = 2.0,
        head_channels: int = 320,
        dropout: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, stem_channels=stem_channels, dims=dims)
        check_positive(embed_dims=embed_dims, depths=depths, patch_size=patch_size, head_channels=head_channels)
        if (len(dims), len(embed_dims), len(depths)) != (5, 3, 3):
            raise ValueError(f"dims={dims} must have 5 members, embed_dims={embed_dims} and depths={depths} 3 each.")
        self.in_channels = in_channels
        self.stem = conv_norm(in_channels, stem_channels, 3, stride=2 if image_size >= 64 else 1, activation=nn.SiLU)
        first, second, *others = dims
        stages: list[nn.Module] = [InvertedResidual(stem_channels, first, expansion, stride=1)]
        stages += [InvertedResidual(first, second, expansion, stride=2)]
        stages += [InvertedResidual(second, second, expansion, stride=1) for _ in range(2)]
        channels = second
        for dim, embed_dim, depth in zip(others, embed_dims, depths, strict=True):
            block = MobileViTBlock(dim, embed_dim, depth, num_heads, patch_size, mlp_ratio, dropout, drop_path_rate)
            stages += [InvertedResidual(channels, dim, expansion, stride=2), block]
            channels = dim
        self.stages = nn.Sequential(*stages)
        self.last = conv_norm(channels, head_channels, 1, activation=nn.SiLU)
        self.dropout = Dropout(dropout)
        self.head = make_head(head_channels, num_classes)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, stem_channels, H, W), or / 2
        x = self.last(self.stages(x))  # (B, head_channels, H / 16, W / 16), or / 32 from 64 px up
        return self.head(self.dropout(x.mean(dim=(2, 3))))  # (B, num_classes)


def init_weights(module: nn.Module) -> None:
    """Draw convolutions with He's variance and dense layers with a small one, as the authors' code does."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
