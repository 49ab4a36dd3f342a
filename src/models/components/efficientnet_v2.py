"""EfficientNetV2: Smaller Models and Faster Training (Tan & Le 2021, arXiv 2104.00298).

Early stages replace the expansion and the depthwise convolution of EfficientNet's blocks with one full convolution:
fewer memory accesses for more arithmetic, and faster to train on a CPU.

Differences from the paper: below 64 px the second stage keeps the resolution; the table of stages is an argument; and
tensors are kept channels-last, which is faster on a CPU. Progressive learning is not included.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from src.models.components.efficientnet import InvertedResidual, check_stages, init_weights
from src.models.components.layers import (
    Dropout,
    Logits,
    NumClasses,
    check_images,
    check_positive,
    conv_norm,
    drop_path_rates,
    make_head,
)

# V2-S, table 4 of the paper: expansion, kernel size, stride, channels, layers
S_FUSED_STAGES = ((1, 3, 1, 24, 2), (4, 3, 2, 48, 4), (4, 3, 2, 64, 4))
S_STAGES = ((4, 3, 2, 128, 6), (6, 3, 1, 160, 9), (6, 3, 2, 256, 15))
NORM_EPS = 1e-3  # as in the authors' code


class FusedInvertedResidual(nn.Module):
    """Expand by a full convolution → project 1×1; without expansion the convolution alone. Added to its input."""

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, kernel_size: int, stride: int, drop_path_rate: float
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.layers = (
            nn.Sequential(
                conv_norm(in_channels, hidden, kernel_size, stride, activation=nn.SiLU),
                conv_norm(hidden, out_channels, 1),
            )
            if expansion > 1
            else conv_norm(in_channels, out_channels, kernel_size, stride, activation=nn.SiLU)
        )
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / stride, W / stride)."""
        y = self.layers(x)
        return x + self.drop_path(y) if self.residual else y


class EfficientNetV2(nn.Module):
    """A stem, stages of fused blocks, stages of inverted residual blocks, a wide 1×1 convolution, and a head.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; below 64 the second stage does not halve it.
        num_classes: size of the output, or of each head's.
        fused_stages: expansion, kernel size, stride, channels and layers of the first stages, of fused blocks.
        stages: the same for the other stages.
        head_channels: channels of the last convolution.
        dropout: probability of zeroing a feature before the head.
        drop_path_rate: probability of skipping the last block; it rises linearly from 0 at the first.

    Raises:
        ValueError: a size below 1, or a stage that does not have five.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        fused_stages: Sequence[Sequence[int]] = S_FUSED_STAGES,
        stages: Sequence[Sequence[int]] = S_STAGES,
        head_channels: int = 1280,
        dropout: float = 0.2,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, head_channels=head_channels)
        all_stages = [*fused_stages, *stages]
        check_stages(all_stages)
        if not fused_stages:
            raise ValueError("fused_stages has no stage: use EfficientNet for a net without fused blocks.")
        self.in_channels = in_channels
        channels = fused_stages[0][3]
        self.stem = conv_norm(in_channels, channels, 3, stride=2, activation=nn.SiLU)
        rates = drop_path_rates(drop_path_rate, sum(layers for *_, layers in all_stages))
        blocks: list[nn.Module] = []
        for number, (expansion, kernel_size, stride, out_channels, layers) in enumerate(all_stages):
            block = FusedInvertedResidual if number < len(fused_stages) else InvertedResidual
            for layer in range(layers):
                step = 1 if layer or (image_size < 64 and number == 1) else stride
                blocks.append(block(channels, out_channels, expansion, kernel_size, step, rates[len(blocks)]))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.last = conv_norm(channels, head_channels, 1, activation=nn.SiLU)
        self.dropout = Dropout(dropout)
        self.head = make_head(head_channels, num_classes)
        self.apply(init_weights)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = NORM_EPS

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, channels, H / 2, W / 2)
        x = self.last(self.blocks(x))  # (B, head_channels, H / 16, W / 16), or / 32 from 64 px up
        return self.head(self.dropout(x.mean(dim=(2, 3))))  # (B, num_classes)
