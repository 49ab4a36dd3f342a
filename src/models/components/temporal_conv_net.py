"""TemporalConvNet: An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling
(Bai et al. 2018, arXiv 1803.01271).

Differences from the paper: weights are not normalised, so that convolutions export and quantise as they are.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from src.models.components.layers import (
    Dropout,
    Logits,
    NumClasses,
    StepEmbedding,
    check_positive,
    last_valid,
    make_head,
)


class CausalConv(nn.Module):
    """A dilated convolution whose output at a step depends only on that step and earlier ones."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.before = (kernel_size - 1) * dilation  # zeros before the first step
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # there is one

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T)."""
        return self.conv(F.pad(x, (self.before, 0)))


class TemporalBlock(nn.Module):
    """Two causal convolutions with ReLU and dropout, added to their input, which a 1×1 convolution widens if needed."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = CausalConv(in_channels, out_channels, kernel_size, dilation)
        self.conv2 = CausalConv(out_channels, out_channels, kernel_size, dilation)
        self.dropout = Dropout(dropout)
        self.shortcut = nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T)."""
        y = self.dropout(self.conv1(x).relu())
        y = self.dropout(self.conv2(y).relu())
        return (y + self.shortcut(x)).relu()


class TemporalConvNet(nn.Module):
    """Blocks of causal convolutions, the dilation doubling from block to block; classifies the last valid step.

    Its receptive field is `1 + 2 · (kernel_size - 1) · (2^depth - 1)` steps, without the padding after it.

    Args:
        num_classes: size of the output, or of each head's.
        length: maximum number of steps of an input.
        in_features: features of series (B, T, in_features).
        vocabulary_size: size of the vocabulary of tokens (B, T), 0 is padding; give one of the two.
        channels: channels of every block.
        depth: number of blocks.
        kernel_size: size of every convolution.
        embed_dim: width of a token's embedding; series are not embedded.
        dropout: probability of zeroing a value after each convolution.

    Raises:
        ValueError: a size below 1, or not exactly one of `in_features` and `vocabulary_size`.
    """

    def __init__(
        self,
        *,
        num_classes: NumClasses,
        length: int,
        in_features: int | None = None,
        vocabulary_size: int | None = None,
        channels: int = 32,
        depth: int = 4,
        kernel_size: int = 3,
        embed_dim: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(channels=channels, depth=depth, kernel_size=kernel_size)
        self.embed = StepEmbedding(in_features, vocabulary_size, length, embed_dim if vocabulary_size else None)
        widths = [self.embed.width] + [channels] * depth
        self.blocks = nn.Sequential(
            *(
                TemporalBlock(widths[block], channels, kernel_size, dilation=2**block, dropout=dropout)
                for block in range(depth)
            )
        )
        self.head = make_head(channels, num_classes)

    def forward(self, x: Tensor) -> Logits:
        """Map series (B, T, in_features) or tokens (B, T) to logits (B, num_classes)."""
        x, mask = self.embed(x)  # (B, T, D)
        x = self.blocks(x.transpose(1, 2))  # (B, channels, T)
        return self.head(last_valid(x.transpose(1, 2), mask))  # (B, num_classes)
