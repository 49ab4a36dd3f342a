"""A plain convolutional net in the manner of VGG (Simonyan & Zisserman 2014, arXiv 1409.1556).

Differences from the paper: one 3×3 convolution in each stage instead of two to four, with BatchNorm (Ioffe & Szegedy
2015, arXiv 1502.03167), and a single hidden dense layer, as in tutorials on CIFAR-10.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.models.components.layers import Dropout, Logits, NumClasses, check_images, check_positive, make_head


class VGG(nn.Module):
    """Stages of Conv 3×3 → BatchNorm → ReLU → max-pool 2×2, then a hidden dense layer with dropout, and a head.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image.
        num_classes: size of the output, or of each head's.
        dims: channels of each stage.
        hidden_size: width of the dense layer.
        dropout: probability of zeroing a feature before and after the dense layer.

    Raises:
        ValueError: a size below 1, or an image too small for the stages.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        dims: Sequence[int] = (64, 128, 256),
        hidden_size: int = 512,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, dims=dims, hidden_size=hidden_size)
        size = image_size // 2 ** len(dims)
        if size < 1:
            raise ValueError(f"image_size={image_size} is too small to be halved for {len(dims)} stages.")
        self.in_channels, self.image_size = in_channels, image_size
        stages: list[nn.Module] = []
        for before, dim in zip((in_channels, *dims[:-1]), dims, strict=True):
            conv = nn.Conv2d(before, dim, kernel_size=3, padding=1, bias=False)
            stages.append(nn.Sequential(conv, nn.BatchNorm2d(dim), nn.ReLU(inplace=True), nn.MaxPool2d(2)))
        self.stages = nn.Sequential(*stages)
        self.hidden = nn.Sequential(
            nn.Flatten(), Dropout(dropout), nn.Linear(dims[-1] * size**2, hidden_size), nn.ReLU(), Dropout(dropout)
        )
        self.head = make_head(hidden_size, num_classes)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels, self.image_size)
        x = self.stages(x.contiguous(memory_format=torch.channels_last))  # (B, D, H / 8, W / 8) with three stages
        return self.head(self.hidden(x))  # (B, num_classes)
