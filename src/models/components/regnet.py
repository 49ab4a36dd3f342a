"""Designing Network Design Spaces (Radosavovic et al. 2020, arXiv 2003.13678): RegNetX and, with SE, RegNetY.

The widths of the blocks are a quantized linear function (section 3.3 of the paper): `u_j = w_0 + w_a · j` is rounded to
`w_0 · w_m^s` for an integer s, and blocks of one width form a stage.

Differences from the paper: below 64 px the stem keeps the resolution, because four stages halve it four times; and
tensors are kept channels-last, which is faster on a CPU.
"""

import math
from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import SqueezeExcitation, StochasticDepth

from src.models.components.layers import (
    Logits,
    NumClasses,
    check_images,
    check_positive,
    conv_norm,
    drop_path_rates,
    make_head,
)
from src.models.components.resnet import init_weights

STEM_CHANNELS = 32


def block_widths(depth: int, initial_width: int, width_slope: float, width_mult: float, group_width: int) -> list[int]:
    """Return the width of each block by the paper's rule, in multiples of 8 and of the group's width.

    Args:
        depth: number of blocks, d in the paper.
        initial_width: w_0.
        width_slope: w_a.
        width_mult: w_m.
        group_width: g; a narrower block is one group.

    Raises:
        ValueError: a width that the rule cannot quantize.
    """
    if width_slope < 0 or width_mult <= 1 or initial_width % 8:
        raise ValueError(
            f"width_slope={width_slope} must not be negative, width_mult={width_mult} must be above 1, and "
            f"initial_width={initial_width} must be a multiple of 8."
        )
    widths = []
    for block in range(depth):
        exponent = round(math.log((initial_width + width_slope * block) / initial_width, width_mult))
        width = round(initial_width * width_mult**exponent / 8) * 8
        group = min(group_width, width)
        widths.append(max(group, int(width + group / 2) // group * group))
    return widths


class Block(nn.Module):
    """1×1 → 3×3 in groups → squeeze-and-excitation → 1×1, added to its input or a projection of it, then ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, group_width: int, se_ratio: float, drop_path_rate: float
    ) -> None:
        super().__init__()
        groups = out_channels // min(group_width, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = conv_norm(in_channels, out_channels, 1, stride)
        layers: list[nn.Module] = [
            conv_norm(in_channels, out_channels, 1, activation=nn.ReLU),
            conv_norm(out_channels, out_channels, 3, stride, groups, activation=nn.ReLU),
        ]
        if se_ratio:
            layers.append(SqueezeExcitation(out_channels, max(1, round(se_ratio * in_channels))))
        self.layers = nn.Sequential(*layers, conv_norm(out_channels, out_channels, 1))
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        return F.relu(self.drop_path(self.layers(x)) + self.shortcut(x), inplace=True)


class RegNet(nn.Module):
    """A stem, blocks whose widths follow the paper's rule, halving the image where the width grows, and a head.

    The defaults are RegNetY-400MF.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; below 64 the stem does not halve it.
        num_classes: size of the output, or of each head's.
        depth: number of blocks, d in the paper.
        initial_width: width of the first block, w_0.
        width_slope: increase of the width per block before quantization, w_a.
        width_mult: ratio of the widths of stages, w_m.
        group_width: channels in a group of the 3×3 convolutions.
        se_ratio: channels inside squeeze-and-excitation per input channel of a block (RegNetY: 0.25; RegNetX: 0, none).
        stem_channels: channels of the stem.
        drop_path_rate: probability of skipping the last block; it rises linearly from 0 at the first.

    Raises:
        ValueError: a size below 1, or widths that the rule cannot quantize.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        depth: int = 16,
        initial_width: int = 48,
        width_slope: float = 27.89,
        width_mult: float = 2.09,
        group_width: int = 8,
        se_ratio: float = 0.25,
        stem_channels: int = STEM_CHANNELS,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, depth=depth, initial_width=initial_width)
        check_positive(group_width=group_width, stem_channels=stem_channels)
        self.in_channels = in_channels
        stride = 2 if image_size >= 64 else 1
        self.stem = conv_norm(in_channels, stem_channels, 3, stride, activation=nn.ReLU)
        widths = block_widths(depth, initial_width, width_slope, width_mult, group_width)
        rates = iter(drop_path_rates(drop_path_rate, depth))
        self.blocks = nn.Sequential(*self._blocks(widths, stem_channels, group_width, se_ratio, rates))
        self.head = make_head(widths[-1], num_classes)
        self.apply(init_weights)

    @staticmethod
    def _blocks(
        widths: list[int], in_channels: int, group_width: int, se_ratio: float, rates: Iterator[float]
    ) -> Iterator[Block]:
        for width, stage in groupby(widths):
            for number, _ in enumerate(stage):
                yield Block(in_channels, width, 1 if number else 2, group_width, se_ratio, next(rates))
                in_channels = width

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, stem_channels, H, W), or / 2
        x = self.blocks(x)  # (B, D, H / 16, W / 16) with four stages, or / 32 from 64 px up
        return self.head(x.mean(dim=(2, 3)))  # (B, num_classes)
