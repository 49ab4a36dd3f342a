"""SimpleCNN: two convolutions and two dense layers, the classic first net for small images (ours; no paper)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from src.models.components.layers import Dropout, Logits, NumClasses, check_images, check_positive, make_head
from src.models.components.whitening import start_as_identity, whitening_layers

AUXILIARY_SIZE = 16  # features computed from the scalars


class SimpleCNN(nn.Module):
    """Twice Conv 3×3 → BatchNorm → MaxPool 2 → ReLU, pool to a fixed grid, then Linear → ReLU → Dropout → Linear.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; at least 4, because each pooling halves it.
        num_classes: size of the output, or of each head's.
        conv1_channels: channels of the first convolution.
        conv2_channels: channels of the second convolution.
        pool_size: height and width of the grid that the features are pooled to.
        hidden_size: width of the dense layer.
        dropout: probability of zeroing a value of the dense layer.
        auxiliary_input_size: scalars that come with each image; they pass through two small dense layers and join the
            features before the head.
        whitening: options of a frozen `Whitening` layer before the first convolution, such as `kernel_size`; null: no
            such layer.
        dirac: start the convolutions after the first layer as partial identities; see `start_as_identity`.

    Raises:
        ValueError: a size below its minimum.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        conv1_channels: int = 32,
        conv2_channels: int = 64,
        pool_size: int = 7,
        hidden_size: int = 128,
        dropout: float = 0.25,
        auxiliary_input_size: int = 0,
        whitening: Mapping[str, Any] | None = None,
        dirac: bool = False,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            conv1_channels=conv1_channels,
            conv2_channels=conv2_channels,
            pool_size=pool_size,
            hidden_size=hidden_size,
        )
        if auxiliary_input_size < 0:
            raise ValueError(f"auxiliary_input_size={auxiliary_input_size} must not be negative.")
        if image_size < 4:
            raise ValueError(f"image_size={image_size} must be at least 4: it is halved twice.")
        self.in_channels = in_channels
        first, conv1_inputs = whitening_layers(in_channels, whitening)
        self.features = nn.Sequential(
            *first,
            nn.Conv2d(conv1_inputs, conv1_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(conv1_channels),
            nn.MaxPool2d(2),  # before the ReLU: the same values from a quarter of the work
            nn.ReLU(inplace=True),
            nn.Conv2d(conv1_channels, conv2_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(conv2_channels),
            nn.MaxPool2d(2),  # before the ReLU: the same values from a quarter of the work
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(pool_size),
            nn.Flatten(),
            nn.Linear(conv2_channels * pool_size**2, hidden_size),
            nn.ReLU(),
            Dropout(dropout),
        )
        self.auxiliary: nn.Module | None = None
        if auxiliary_input_size:
            self.auxiliary = nn.Sequential(
                nn.Linear(auxiliary_input_size, AUXILIARY_SIZE),
                nn.ReLU(),
                nn.Linear(AUXILIARY_SIZE, AUXILIARY_SIZE),
                nn.ReLU(),
            )
            hidden_size += AUXILIARY_SIZE
        self.head = make_head(hidden_size, num_classes)
        if dirac:
            start_as_identity(self)

    def forward(self, x: Tensor, auxiliary: Tensor | None = None) -> Logits:
        """Map images (B, C, H, W), and scalars (B, auxiliary_input_size) where the net takes them, to logits.

        Raises:
            ValueError: scalars are missing, or given to a net that takes none.
        """
        check_images(x, self.in_channels)
        if (auxiliary is None) != (self.auxiliary is None):
            raise ValueError("The net takes scalars besides the image if and only if auxiliary_input_size is not 0.")
        x = self.features(x)  # (B, hidden_size)
        if self.auxiliary is not None:
            x = torch.cat([x, self.auxiliary(auxiliary)], dim=1)  # (B, hidden_size + AUXILIARY_SIZE)
        return self.head(x)  # (B, num_classes)
