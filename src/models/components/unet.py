"""UNet (Ronneberger et al. 2015, arXiv 1505.04597): an encoder, a decoder, and skips between their levels.

Differences from the paper: convolutions are padded, so that the output is as large as the image, and followed by
BatchNorm, as in most implementations since. With the paper's `dims`, 3 channels in and 1 out: 31,037,633 parameters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.models.components.layers import check_images, check_option, check_positive, conv_norm

UPSAMPLING = ("transposed", "bilinear")


class UNet(nn.Module):
    """Two convolutions 3×3 at every level, max-pooling between them on the way down, upsampling on the way up.

    Images of any size are padded with zeros to a multiple of 2^(levels - 1), and the output is cropped to their size.

    Args:
        in_channels: channels of the image.
        num_classes: logits of each pixel.
        image_size: required height and width of the images; None for any.
        dims: channels of each level, from the full resolution down.
        upsampling: "transposed": 2×2 transposed convolutions, which halve the channels as in the paper; "bilinear".

    Raises:
        ValueError: a size is below 1, there is a single level, or `upsampling` is unknown.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        image_size: int | None = None,
        dims: Sequence[int] = (64, 128, 256, 512, 1024),
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes, dims=dims)
        if image_size is not None:
            check_positive(image_size=image_size)
        check_option(UPSAMPLING, upsampling=upsampling)
        if len(dims) < 2:
            raise ValueError(f"dims={list(dims)} must have at least two levels.")
        self.in_channels, self.image_size = in_channels, image_size
        self.multiple = 2 ** (len(dims) - 1)
        self.down = nn.ModuleList(
            double_conv(before, dim) for before, dim in zip((in_channels, *dims[:-1]), dims, strict=True)
        )
        levels = list(zip(dims[:0:-1], dims[-2::-1], strict=True))  # (channels below, channels of the level)
        self.up = nn.ModuleList(Up(below, dim, upsampling) for below, dim in levels)
        self.head = nn.Conv2d(dims[0], num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the logits (B, num_classes, H, W) of their pixels."""
        check_images(x, self.in_channels, self.image_size)
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        x = x.contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for level in self.down:
            x = level(F.max_pool2d(x, 2) if skips else x)  # (B, dims[i], H / 2^i, W / 2^i)
            skips.append(x)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            x = up(x, skip)
        return self.head(x)[:, :, :height, :width]


class Up(nn.Module):
    """Upsample by 2, append the encoder's features of that level, and convolve twice."""

    def __init__(self, below: int, dim: int, upsampling: str) -> None:
        super().__init__()
        if upsampling == "transposed":
            self.upsample: nn.Module = nn.ConvTranspose2d(below, dim, kernel_size=2, stride=2)
            below = dim
        else:
            self.upsample = nn.Upsample(scale_factor=2, mode="bilinear")
        self.conv = double_conv(below + dim, dim)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map features (B, below, H / 2, W / 2) and the skip (B, dim, H, W) to (B, dim, H, W)."""
        return self.conv(torch.cat([skip, self.upsample(x)], dim=1))


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice Conv 3×3 → BatchNorm → ReLU."""
    return nn.Sequential(
        conv_norm(in_channels, out_channels, 3, activation=nn.ReLU),
        conv_norm(out_channels, out_channels, 3, activation=nn.ReLU),
    )
