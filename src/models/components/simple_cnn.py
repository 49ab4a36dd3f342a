"""SimpleCNN: two convolutions and two dense layers, the classic first net for small images (ours; no paper)."""

from torch import Tensor, nn

from src.models.components.layers import check_positive


class SimpleCNN(nn.Module):
    """Twice Conv 3×3 → BatchNorm → ReLU → MaxPool 2, pool to a fixed grid, then Linear → ReLU → Dropout → Linear.

    Args:
        in_channels: of the image.
        image_size: height and width of the image; at least 4, for each pooling halves it.
        num_classes: size of the output.
        conv1_channels: of the first convolution.
        conv2_channels: of the second convolution.
        pool_size: height and width of the grid that the features are pooled to.
        hidden_size: width of the dense layer.
        dropout: probability of zeroing a value of the dense layer.

    Raises:
        ValueError: a size below its least.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        conv1_channels: int = 32,
        conv2_channels: int = 64,
        pool_size: int = 7,
        hidden_size: int = 128,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            num_classes=num_classes,
            conv1_channels=conv1_channels,
            conv2_channels=conv2_channels,
            pool_size=pool_size,
            hidden_size=hidden_size,
        )
        if image_size < 4:
            raise ValueError(f"image_size={image_size} must be at least 4: it is halved twice.")
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, conv1_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(conv1_channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(conv1_channels, conv2_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(conv2_channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(pool_size),
            nn.Flatten(),
            nn.Linear(conv2_channels * pool_size**2, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden_size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        x = self.features(x)  # (B, hidden_size)
        return self.head(x)  # (B, num_classes)
