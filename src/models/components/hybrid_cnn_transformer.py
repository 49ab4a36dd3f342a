"""HybridCNNTransformer: convolutions for detail, attention for global context, sized for CPUs (ours; no paper).

A convolutional backbone shrinks the image to few positions, so that attention between them is cheap; a channel gate
(after CBAM, Woo et al. 2018, arXiv 1807.06521) and an embedding of the whole image inform every position.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from src.models.components.layers import (
    MLP,
    Attention,
    Dropout,
    Logits,
    NumClasses,
    check_images,
    check_positive,
    conv_norm,
    fit_positions,
    make_head,
)


class ResidualBlock(nn.Module):
    """Conv 3×3 stride 2 → BN → ReLU → conv 3×3 → BN, plus a 1×1 stride 2 conv → BN of the input, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *conv_norm(in_channels, out_channels, 3, stride=2, activation=nn.ReLU),
            *conv_norm(out_channels, out_channels, 3),
        )
        self.skip = conv_norm(in_channels, out_channels, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / 2, W / 2), rounded up."""
        return torch.relu(self.layers(x) + self.skip(x))


class ChannelGate(nn.Module):
    """Weight each channel by its mean and its maximum over the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels, channels // 2, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, channels, kernel_size=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        pooled = torch.cat([x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)], dim=1)
        return x * self.layers(pooled)  # pooled: (B, 2 C, 1, 1)


class EncoderBlock(nn.Module):
    """Post-norm transformer block: attention, then MLP, each added to its input and then normalised."""

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(embed_dim, num_heads, dropout)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.mlp = MLP(embed_dim, hidden_dim, dropout)
        self.norm2 = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D)."""
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class HybridCNNTransformer(nn.Module):
    """Six parts: stem, residual blocks, channel gate, global embedding, transformer encoder, head.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; below 64 the stem keeps the resolution. Images of other sizes work,
            too: the position embeddings are interpolated.
        num_classes: size of the output, or of each head's.
        channels: channels of the stem and of each residual block; every block halves the resolution.
        embed_dim: width of a token, a multiple of `num_heads`.
        depth: blocks of the encoder.
        num_heads: heads of attention in a block.
        mlp_ratio: hidden width of a block's MLP in units of `embed_dim`.
        global_size: height and width of the grid that the map is pooled to for the global embedding.
        global_dim: hidden width of the global embedding.
        head_dims: widths of the head's two hidden layers.
        dropout: probability of zeroing a value in the encoder, the global embedding and the head's second layer.
        head_dropout: probability of zeroing a value of the head's first layer.

    Raises:
        ValueError: a size below 1, heads that do not divide the width, or too few channels.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        channels: Sequence[int] = (64, 128, 256, 512),
        embed_dim: int = 768,
        depth: int = 4,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        global_size: int = 4,
        global_dim: int = 2048,
        head_dims: Sequence[int] = (512, 256),
        dropout: float = 0.1,
        head_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            image_size=image_size,
            channels=channels,
            depth=depth,
            global_size=global_size,
            global_dim=global_dim,
            head_dims=head_dims,
        )
        if len(channels) < 2 or channels[-1] < 2:
            raise ValueError(f"channels={channels} must be the stem's and at least one block's, the last at least 2.")
        if len(head_dims) != 2:
            raise ValueError(f"head_dims={head_dims} must be two widths.")
        self.in_channels = in_channels
        small = image_size < 64
        self.stem = small_stem(in_channels, channels[0]) if small else large_stem(in_channels, channels[0])
        self.backbone = nn.Sequential(*(ResidualBlock(before, after) for before, after in pairwise(channels)))
        self.gate = ChannelGate(channels[-1])
        self.global_embed = nn.Sequential(
            nn.AdaptiveAvgPool2d(global_size),
            nn.Flatten(),
            nn.Linear(channels[-1] * global_size**2, global_dim),
            nn.LayerNorm(global_dim),
            nn.ReLU(inplace=True),
            Dropout(dropout),
            nn.Linear(global_dim, embed_dim),
        )
        halvings = len(channels) - 1 + (0 if small else 2)  # by the residual blocks, and by the large stem
        side = math.ceil(image_size / 2**halvings)
        self.project = nn.Linear(channels[-1], embed_dim)
        self.position = nn.Parameter(torch.empty(side**2, embed_dim))
        nn.init.trunc_normal_(self.position, std=0.02)
        hidden_dim = int(embed_dim * mlp_ratio)
        self.encoder = nn.Sequential(*(EncoderBlock(embed_dim, num_heads, hidden_dim, dropout) for _ in range(depth)))
        self.pre_head = nn.Sequential(
            nn.Linear(embed_dim, head_dims[0]),
            nn.LayerNorm(head_dims[0]),
            nn.ReLU(inplace=True),
            Dropout(head_dropout),
            nn.Linear(head_dims[0], head_dims[1]),
            nn.ReLU(inplace=True),
            Dropout(dropout),
        )
        self.head = make_head(head_dims[1], num_classes)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes); the shapes are those of the base variant at 224 px."""
        check_images(x, self.in_channels)
        x = self.stem(x)  # (B, 64, 56, 56)
        x = self.backbone(x)  # (B, 512, 7, 7)
        x = self.gate(x)  # (B, 512, 7, 7)
        context = self.global_embed(x)  # (B, 768)
        tokens = self.project(x.flatten(2).transpose(1, 2))  # (B, 49, 768)
        position = fit_positions(self.position, *x.shape[2:])  # (49, 768)
        tokens = self.encoder(tokens + context.unsqueeze(1) + position)  # (B, 49, 768)
        return self.head(self.pre_head(tokens.mean(dim=1)))  # (B, num_classes)


def large_stem(in_channels: int, out_channels: int) -> nn.Sequential:
    """Conv 7×7 stride 2 → BN → ReLU → max-pool 3×3 stride 2: a quarter of the resolution."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def small_stem(in_channels: int, out_channels: int) -> nn.Sequential:
    """Conv 3×3 → BN → ReLU: the full resolution."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
