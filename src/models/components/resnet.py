"""Deep Residual Learning for Image Recognition (He et al. 2015, arXiv 1512.03385).

Depths (2, 2, 2, 2) are ResNet-18 and (3, 4, 6, 3) ResNet-34; bottlenecks of (3, 4, 6, 3) are ResNet-50. The paper's
nets for CIFAR (section 4.2) have three stages of n blocks with 16, 32 and 64 channels and parameter-free shortcuts.

Differences from the paper: a bottleneck halves the image in its 3×3 convolution, as torchvision's do; images below
64 px get a stem that keeps their size; and tensors are kept channels-last, which is faster on a CPU.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from src.models.components.layers import (
    Logits,
    NumClasses,
    check_images,
    check_option,
    check_positive,
    conv_norm,
    drop_path_rates,
    make_head,
)
from src.models.components.whitening import whitening_layers

EXPANSION = {"basic": 1, "bottleneck": 4}  # output channels of a block for each channel inside
Shortcut = Literal["projection", "padding"]


class PaddingShortcut(nn.Module):
    """The paper's option A: every `stride`-th pixel, and zeros for the channels that the block adds."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.added, self.stride = out_channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))


class Block(nn.Module):
    """Two 3×3 convolutions, or 1×1 → 3×3 → 1×1 for a bottleneck, added to a shortcut, then ReLU."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, kind: str, shortcut: Shortcut, drop_path_rate: float
    ) -> None:
        super().__init__()
        out_channels = channels * EXPANSION[kind]
        if kind == "basic":
            layers = [conv_norm(in_channels, channels, 3, stride, activation=nn.ReLU)]
        else:
            layers = [conv_norm(in_channels, channels, 1, activation=nn.ReLU)]
            layers += [conv_norm(channels, channels, 3, stride, activation=nn.ReLU)]
        self.layers = nn.Sequential(*layers, conv_norm(channels, out_channels, 3 if kind == "basic" else 1))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            if shortcut == "padding":
                self.shortcut = PaddingShortcut(in_channels, out_channels, stride)
            else:
                self.shortcut = conv_norm(in_channels, out_channels, 1, stride)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        return F.relu(self.drop_path(self.layers(x)) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """A stem, stages of residual blocks, each at half the resolution of the one before, and a head.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; it determines the stem.
        num_classes: size of the output, or of each head's.
        depths: blocks in each stage.
        dims: channels inside the blocks of each stage.
        block: `basic`, or `bottleneck`, whose output has four times its channels.
        stem: `7x7` halves the image twice, `3x3` keeps its size; null: `3x3` below 64 px.
        stem_channels: channels of the stem; null: those of the first stage.
        whitening: options of a frozen `Whitening` layer before the stem, such as `kernel_size`; null: no such layer.
        shortcut: `projection` by a 1×1 convolution where shapes differ, or `padding` with zeros.
        zero_init_residual: start the last BatchNorm of each block at zero, so that blocks start as their shortcuts.
        drop_path_rate: probability of skipping the last block; it rises linearly from 0 at the first.

    Raises:
        ValueError: a size below 1, lists of different lengths, channels that shrink with `shortcut=padding`, or an
            unknown option.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        depths: Sequence[int] = (2, 2, 2, 2),
        dims: Sequence[int] = (64, 128, 256, 512),
        block: Literal["basic", "bottleneck"] = "basic",
        stem: Literal["7x7", "3x3"] | None = None,
        stem_channels: int | None = None,
        whitening: Mapping[str, Any] | None = None,
        shortcut: Shortcut = "projection",
        zero_init_residual: bool = False,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, depths=depths, dims=dims)
        check_option(block=block, options=tuple(EXPANSION))
        check_option(stem=stem, options=(None, "7x7", "3x3"))
        check_option(shortcut=shortcut, options=("projection", "padding"))
        if len(depths) != len(dims) or not dims:
            raise ValueError(f"depths={depths} and dims={dims} must have the same length.")
        channels = dims[0] if stem_channels is None else stem_channels
        check_positive(stem_channels=channels)
        widths = [channels, *(dim * EXPANSION[block] for dim in dims)]
        if shortcut == "padding" and widths != sorted(widths):
            raise ValueError(f"shortcut=padding can only add channels, but {widths} decreases.")
        self.in_channels = in_channels
        first, stem_inputs = whitening_layers(in_channels, whitening)
        if stem == "7x7" or (stem is None and image_size >= 64):
            stem_conv = conv_norm(stem_inputs, channels, 7, stride=2, activation=nn.ReLU)
            self.stem = nn.Sequential(*first, *stem_conv, nn.MaxPool2d(3, 2, padding=1))
        else:
            self.stem = nn.Sequential(*first, *conv_norm(stem_inputs, channels, 3, activation=nn.ReLU))
        rates = drop_path_rates(drop_path_rate, sum(depths))
        blocks: list[nn.Module] = []
        for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            for number in range(depth):
                stride = 2 if stage and not number else 1
                blocks.append(Block(channels, dim, stride, block, shortcut, rates[len(blocks)]))
                channels = dim * EXPANSION[block]
        self.blocks = nn.Sequential(*blocks)
        self.head = make_head(channels, num_classes)
        self.apply(init_weights)
        if zero_init_residual:
            for residual in self.blocks.modules():
                if isinstance(residual, Block):
                    *_, norm = residual.layers.modules()
                    assert isinstance(norm, nn.BatchNorm2d)
                    nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, D, H, W), or / 4 after a 7×7 stem
        x = self.blocks(x)  # (B, D, H / 8, W / 8) with four stages
        return self.head(x.mean(dim=(2, 3)))  # (B, num_classes)


def init_weights(module: nn.Module) -> None:
    """Initialise convolutions with He's variance by fan-out (2015, arXiv 1502.01852)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
