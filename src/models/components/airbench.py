"""The net of 94% on CIFAR-10 in 3.29 Seconds on a Single GPU (Jordan 2024, arXiv 2404.00498), made to train fast.

The defaults are airbench94's; dims of (128, 512, 512) and 3 convolutions are airbench96's.

Differences from the paper: BatchNorm trains its scale and has torch's momentum, the head has a bias and is not scaled,
and the whitening layer is that of `Whitening`. Tensors are kept channels-last, which is faster on a CPU.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.models.components.layers import (
    Logits,
    NumClasses,
    check_images,
    check_option,
    check_positive,
    conv_norm,
    make_head,
)
from src.models.components.whitening import Whitening, start_as_identity

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


class Group(nn.Module):
    """A 3×3 convolution and max-pooling, then further convolutions at half the resolution.

    Each is followed by BatchNorm and the activation. If there are three or more, those after the first form a residual
    block.
    """

    def __init__(self, in_channels: int, out_channels: int, convolutions: int, activation: str) -> None:
        super().__init__()
        make_activation = ACTIVATIONS[activation]
        conv, norm = conv_norm(in_channels, out_channels, 3)
        # pooling comes early, so that the rest has a quarter of the work
        self.first = nn.Sequential(conv, nn.MaxPool2d(2), norm, make_activation())
        others: list[nn.Module] = []
        for _ in range(convolutions - 1):
            others += [*conv_norm(out_channels, out_channels, 3), make_activation()]
        self.others = nn.Sequential(*others[:-1])  # a shortcut comes before the last activation
        self.activation = make_activation()
        self.has_shortcut = convolutions > 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / 2, W / 2)."""
        x = self.first(x)
        residual = self.others(x)
        return self.activation(x + residual if self.has_shortcut else residual)


class AirbenchNet(nn.Module):
    """A whitening layer, groups of convolutions, each at half the resolution of the one before, and a head.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image.
        num_classes: size of the output, or of each head's.
        dims: channels of each group.
        convolutions: convolutions in each group, at least 2.
        whitening: options of the frozen first layer, such as `kernel_size` and `stride`; see `Whitening`.
        dirac: start the convolutions as partial identities; see `start_as_identity`.
        activation: `gelu` as in the paper, or `relu`.

    Raises:
        ValueError: a size below its minimum, an image too small for the groups, or an unknown option.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        dims: Sequence[int] = (64, 256, 256),
        convolutions: int = 2,
        whitening: Mapping[str, Any] | None = None,
        dirac: bool = True,
        activation: Literal["gelu", "relu"] = "gelu",
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, dims=dims)
        check_option(activation=activation, options=tuple(ACTIVATIONS))
        if convolutions < 2:
            raise ValueError(f"convolutions={convolutions} must be at least 2.")
        self.in_channels = in_channels
        self.whitening = Whitening(in_channels, **(whitening or {}))
        if image_size // self.whitening.stride < 2 ** len(dims):
            raise ValueError(f"image_size={image_size} is too small to be halved for {len(dims)} groups.")
        self.activation = ACTIVATIONS[activation]()
        widths = [self.whitening.out_channels, *dims]
        self.groups = nn.Sequential(*(Group(before, dim, convolutions, activation) for before, dim in pairwise(widths)))
        self.head = make_head(widths[-1], num_classes)
        if dirac:
            start_as_identity(self)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels)
        x = self.activation(self.whitening(x.contiguous(memory_format=torch.channels_last)))  # (B, 2 · C · k², H, W)
        x = self.groups(x)  # (B, D, H / 8, W / 8) with three groups
        return self.head(x.amax(dim=(2, 3)))  # (B, num_classes)
