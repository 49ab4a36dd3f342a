"""EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan & Le 2019, arXiv 1905.11946).

Differences from the paper: below 64 px the second stage keeps the resolution, so that small images are halved four
times instead of five, or three in nets of four stages; the table of stages is an argument, so that small nets may have
fewer; and tensors are kept channels-last, in which depthwise convolutions on a CPU take about half the time.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation, StochasticDepth

from src.models.components.layers import (
    DepthwiseConv2d,
    Dropout,
    Logits,
    NumClasses,
    check_images,
    check_positive,
    conv_norm,
    drop_path_rates,
    make_head,
    norm_after,
)

# B0, table 1 of the paper: expansion, kernel size, stride, channels, layers
B0_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class InvertedResidual(nn.Module):
    """Expand 1×1 → depthwise → squeeze-and-excitation → project 1×1; added to its input where the shapes agree."""

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, kernel_size: int, stride: int, drop_path_rate: float
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = [conv_norm(in_channels, hidden, 1, activation=nn.SiLU)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *layers,
            norm_after(DepthwiseConv2d(hidden, kernel_size, stride, bias=False), nn.SiLU),
            SqueezeExcitation(hidden, max(1, in_channels // 4), activation=nn.SiLU),
            conv_norm(hidden, out_channels, 1),
        )
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        y = self.layers(x)
        return x + self.drop_path(y) if self.residual else y


class EfficientNet(nn.Module):
    """A stem, stages of inverted residual blocks, a wide 1×1 convolution, and a head.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; below 64 the second stage does not halve it.
        num_classes: size of the output, or of each head's.
        stages: expansion, kernel size, stride, channels and layers of each stage, before scaling.
        width_mult: factor of all channels.
        depth_mult: factor of all layers.
        stem_channels: channels of the first convolution, before scaling.
        head_channels: channels of the last convolution, before scaling.
        dropout: probability of zeroing a feature before the head.
        drop_path_rate: probability of skipping the last block; it rises linearly from 0 at the first.
        channel_divisor: scaled channels are rounded to a multiple of it.

    Raises:
        ValueError: a size below 1, or a factor that is not positive.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        stages: Sequence[Sequence[int]] = B0_STAGES,
        width_mult: float = 1.0,
        depth_mult: float = 1.0,
        stem_channels: int = 32,
        head_channels: int = 1280,
        dropout: float = 0.2,
        drop_path_rate: float = 0.0,
        channel_divisor: int = 8,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, channel_divisor=channel_divisor)
        if width_mult <= 0 or depth_mult <= 0:
            raise ValueError(f"width_mult={width_mult} and depth_mult={depth_mult} must be positive.")
        check_stages(stages)
        self.in_channels = in_channels

        def scaled(channels: int) -> int:
            return scale_channels(channels, width_mult, channel_divisor)

        self.stem = conv_norm(in_channels, scaled(stem_channels), 3, stride=2, activation=nn.SiLU)
        depths = [math.ceil(layers * depth_mult) for *_, layers in stages]
        rates = drop_path_rates(drop_path_rate, sum(depths))
        blocks: list[nn.Module] = []
        channels = scaled(stem_channels)
        for number, ((expansion, kernel_size, stride, out_channels, _), depth) in enumerate(
            zip(stages, depths, strict=True)
        ):
            for layer in range(depth):
                step = 1 if layer or (image_size < 64 and number == 1) else stride
                rate = rates[len(blocks)]
                blocks.append(InvertedResidual(channels, scaled(out_channels), expansion, kernel_size, step, rate))
                channels = scaled(out_channels)
        self.blocks = nn.Sequential(*blocks)
        self.last = conv_norm(channels, scaled(head_channels), 1, activation=nn.SiLU)
        self.dropout = Dropout(dropout)
        self.head = make_head(scaled(head_channels), num_classes)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, stem_channels, H / 2, W / 2)
        x = self.last(self.blocks(x))  # (B, head_channels, H / 16, W / 16), or / 32 from 64 px up
        return self.head(self.dropout(x.mean(dim=(2, 3))))  # (B, num_classes)


def check_stages(stages: Sequence[Sequence[int]]) -> None:
    """Check that every stage has its five sizes.

    Raises:
        ValueError: a stage does not; the message names the first.
    """
    for stage in stages:
        if len(stage) != 5 or min(stage) < 1:
            raise ValueError(f"stages has {stage}: a stage is [expansion, kernel, stride, channels, layers].")


def scale_channels(channels: int, factor: float, divisor: int) -> int:
    """Scale and round to a multiple of `divisor`, but never down by more than a tenth, as in the authors' code."""
    scaled = channels * factor
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * scaled else rounded + divisor


def init_weights(module: nn.Module) -> None:
    """Initialise convolutions with He's variance, and dense layers with small weights."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.out_features**-0.5)
        nn.init.zeros_(module.bias)
