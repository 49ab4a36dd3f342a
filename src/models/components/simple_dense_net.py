"""SimpleDenseNet: a dense net with batch normalisation, for quick baselines (ours; no paper)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from src.models.components.layers import Logits, NumClasses, check_images, check_positive, make_head


class SimpleDenseNet(nn.Module):
    """Flatten, then Linear → BatchNorm → ReLU for each hidden size, then Linear.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image.
        num_classes: size of the output, or of each head's.
        hidden_sizes: width of each hidden layer.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: NumClasses,
        hidden_sizes: Sequence[int] = (64, 128, 64),
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, image_size=image_size, hidden_sizes=hidden_sizes)
        self.in_channels, self.image_size = in_channels, image_size
        sizes = [in_channels * image_size**2, *hidden_sizes]
        layers: list[nn.Module] = [nn.Flatten()]
        for in_size, out_size in pairwise(sizes):
            layers += [nn.Linear(in_size, out_size), nn.BatchNorm1d(out_size), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = make_head(sizes[-1], num_classes)

    def forward(self, x: Tensor) -> Logits:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        check_images(x, self.in_channels, self.image_size)
        x = self.features(x)  # (B, hidden_sizes[-1])
        return self.head(x)  # (B, num_classes)
