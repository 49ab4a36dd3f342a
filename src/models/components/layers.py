"""Shared by several nets: heads, attention, the embedding of sequences, and checks of sizes and inputs."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NumClasses = int | Mapping[str, int]  # of one head, or of several by name
Logits = Tensor | dict[str, Tensor]  # of one head, or of several by name


def check_positive(**sizes: int | Sequence[int]) -> None:
    """Check that every size, or every member of a list of sizes, is at least 1.

    Raises:
        ValueError: a size is smaller; the message names the first such argument.
    """
    for name, value in sizes.items():
        if min([value] if isinstance(value, int) else [*value, 1]) < 1:
            raise ValueError(f"{name}={value} must be at least 1.")


def check_divisible(whole: str, parts: str, **sizes: int) -> None:
    """Check that the size named `whole` is a multiple of the one named `parts`.

    Raises:
        ValueError: it is not; the message names both with their values.
    """
    if sizes[whole] % sizes[parts]:
        raise ValueError(f"{whole}={sizes[whole]} must be a multiple of {parts}={sizes[parts]}.")


def check_option(options: Sequence[str | None], **given: str | None) -> None:
    """Check that an argument is one of its options.

    Raises:
        ValueError: it is not; the message names the argument, its value and the options.
    """
    for name, value in given.items():
        if value not in options:
            raise ValueError(f"{name}={value} must be one of {', '.join(str(option) for option in options if option)}.")


def check_images(x: Tensor, in_channels: int, image_size: int | None = None, multiple_of: int = 1) -> None:
    """Check that x is a batch of images (B, in_channels, S, S).

    S must be `image_size`, or if that is None, any multiple of `multiple_of`; the image need not be square then.

    Raises:
        ValueError: it is not; the message states the shape of x and the shape that the net takes.
    """
    sizes = (image_size, image_size) if image_size else tuple(x.shape[2:])
    fits = x.ndim == 4 and x.shape[1] == in_channels and tuple(x.shape[2:]) == sizes
    if not fits or any(size % multiple_of for size in sizes):
        size = image_size or ("any" if multiple_of == 1 else f"{multiple_of} · n")
        raise ValueError(f"The input is {tuple(x.shape)}, but the net takes (batch, {in_channels}, {size}, {size}).")


def fit_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Interpolate embeddings of the positions in a square grid (…, N, D) to another grid (…, height · width, D).

    Bicubic, so that a net takes images of other sizes (Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.2).
    """
    side = math.isqrt(positions.shape[-2])
    if (height, width) == (side, side):
        return positions
    grid = positions.reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, side, side)
    grid = F.interpolate(grid, (height, width), mode="bicubic", antialias=True)  # (1, D, height, width)
    return grid.flatten(2).transpose(1, 2).reshape(*positions.shape[:-2], height * width, -1)


def check_sequences(x: Tensor, in_features: int | None, length: int) -> None:
    """Check that x is a batch of series (B, T, in_features), or for None of tokens (B, T), of at most `length` steps.

    Raises:
        ValueError: it is not; the message states the shape of x and the shape that the net takes.
    """
    if (x.ndim, *x.shape[2:]) != ((2,) if in_features is None else (3, in_features)) or not 1 <= x.shape[1] <= length:
        takes = f"(batch, steps, {in_features})" if in_features else "tokens (batch, steps)"
        raise ValueError(f"The input is {tuple(x.shape)}, but the net takes {takes} of at most {length} steps.")


def autocast_on_cpu(x: Tensor) -> bool:
    """Return whether x is on the CPU and torch's autocast, to bfloat16, is enabled there."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[..., nn.Module] | None = None,
) -> nn.Sequential:
    """Build a convolution without bias → BatchNorm → activation, if one is given; it keeps the size at stride 1."""
    padding = (kernel_size - 1) // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
    return norm_after(conv, activation)


def norm_after(conv: nn.Conv2d, activation: Callable[..., nn.Module] | None = None) -> nn.Sequential:
    """Build a convolution → BatchNorm → activation, if one is given."""
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(conv.out_channels)]
    return nn.Sequential(*layers, activation(inplace=True)) if activation else nn.Sequential(*layers)


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """Return the probability of skipping each block, which rises linearly from 0 at the first to that of the last."""
    return [last * block / max(blocks - 1, 1) for block in range(blocks)]


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution, which trains in float32 on a CPU because its backward pass is slow in bfloat16."""

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__(channels, channels, kernel_size, stride, (kernel_size - 1) // 2, groups=channels, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H / stride, W / stride)."""
        if self.training and autocast_on_cpu(input):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


class Dropout(nn.Dropout):
    """torch's dropout, several times as fast on a CPU: it draws 16 random bits per value instead of a number.

    The probability is rounded to a multiple of 1 / 65536, and the scale is adjusted to it, so that the mean is kept.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Zero values and scale the others in training; return the tensor unchanged in evaluation."""
        zeroed = round(self.p * 2**16)  # out of 65536
        if not self.training or zeroed in (0, 2**16) or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        words = torch.empty(input.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: input.numel()].view(input.shape)  # -32768 to 32767, evenly
        kept = (bits >= zeroed - 2**15).to(input.dtype)
        return input * kept.mul_(2**16 / (2**16 - zeroed))


class Heads(nn.ModuleDict):
    """A linear head for each name, on the same features."""

    def __init__(self, in_features: int, num_classes: Mapping[str, int]) -> None:
        super().__init__({name: nn.Linear(in_features, count) for name, count in num_classes.items()})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Map features (B, in_features) to logits (B, classes of the head) under each head's name."""
        return {name: head(features) for name, head in self.items()}


def make_head(in_features: int, num_classes: NumClasses) -> nn.Linear | Heads:
    """Return one linear head for a number of classes, or several for a mapping of names to numbers.

    Raises:
        ValueError: a head without classes, or a mapping without heads.
    """
    if isinstance(num_classes, int):
        check_positive(num_classes=num_classes)
        return nn.Linear(in_features, num_classes)
    if num_classes is None:
        raise ValueError("num_classes=null gives no number of classes: set it, or leave it out.")
    if not num_classes:
        raise ValueError("num_classes={} names no head.")
    check_positive(**{f"num_classes.{name}": count for name, count in num_classes.items()})
    return Heads(in_features, num_classes)


class StepEmbedding(nn.Module):
    """Map each step of a sequence to a vector, and mask the padding after the last step.

    Args:
        in_features: features of series (B, T, in_features), all of whose steps are valid.
        vocabulary_size: size of the vocabulary of tokens (B, T), int64, from 1; 0 is padding. Give one of the two.
        length: maximum number of steps of an input.
        embed_dim: width of a vector; None: series are not projected.

    Raises:
        ValueError: a size is below 1, or not exactly one of `in_features` and `vocabulary_size` is given.
    """

    def __init__(
        self, in_features: int | None, vocabulary_size: int | None, length: int, embed_dim: int | None
    ) -> None:
        super().__init__()
        given = {"in_features": in_features, "vocabulary_size": vocabulary_size, "embed_dim": embed_dim}
        check_positive(length=length, **{name: size for name, size in given.items() if size is not None})
        if (in_features is None) == (vocabulary_size is None):
            raise ValueError(
                f"in_features={in_features} and vocabulary_size={vocabulary_size}: give the one for series, or the "
                "other for tokens."
            )
        self.in_features, self.length = in_features, length
        self.width: int  # width of a vector
        self.project: nn.Module
        if vocabulary_size is not None:
            assert embed_dim is not None, "tokens need a width"
            self.project, self.width = nn.Embedding(vocabulary_size, embed_dim, padding_idx=0), embed_dim
        elif in_features is not None:
            self.project = nn.Linear(in_features, embed_dim) if embed_dim else nn.Identity()
            self.width = embed_dim or in_features

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map a batch of sequences to vectors (B, T, D) and a mask (B, T) of valid steps; None if all are.

        The first step counts as valid even in a sequence without tokens.
        """
        check_sequences(x, self.in_features, self.length)
        if self.in_features is not None:
            return self.project(x), None
        first = torch.arange(x.shape[1], device=x.device) == 0  # (T,)
        return self.project(x), (x != 0) | first


def last_valid(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the vector (B, D) of the last valid step of (B, T, D), by a mask (B, T)."""
    if mask is None:
        return x[:, -1]
    last = mask.sum(dim=1) - 1  # (B,)
    return x.gather(1, last[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762).

    Args:
        embed_dim: width of a token, a multiple of `num_heads`.
        num_heads: heads, each of width `embed_dim / num_heads`.
        dropout: probability of zeroing a value of the result. Attention weights have no dropout, as in the ViT paper:
            drawing a number for each of them took a quarter of a train step.

    Raises:
        ValueError: the width cannot be divided among the heads.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(embed_dim=embed_dim, num_heads=num_heads)
        check_divisible("embed_dim", "num_heads", embed_dim=embed_dim, num_heads=num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D); those where the mask (B, N) is false are not attended to."""
        batch, tokens, dim = x.shape
        masks = () if mask is None else (mask[:, None, None],)  # (B, 1, 1, N)
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, -1)  # (B, N, 3, heads, D / heads)
        q, k, v = qkv.permute(
            2, 0, 3, 1, 4
        ).contiguous()  # (B, heads, N, D / heads) each; one copy speeds up the kernel
        if self.training and autocast_on_cpu(x):
            with torch.autocast("cpu", enabled=False):  # the backward kernel is several times slower in bfloat16
                x = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), *masks)
        else:
            x = F.scaled_dot_product_attention(q, k, v, *masks)
        return self.dropout(self.proj(x.transpose(1, 2).reshape(batch, tokens, dim)))  # (B, N, D)


class MLP(nn.Sequential):
    """The two dense layers of a transformer block: Linear → GELU → Dropout → Linear → Dropout, on (B, N, D)."""

    def __init__(self, embed_dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Linear(embed_dim, hidden_dim),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(hidden_dim, embed_dim),
            Dropout(dropout),
        )
