"""ConvAutoencoder: convolutions that shrink an image and enlarge it again (Hinton & Salakhutdinov 2006's idea with
3×3 convolutions, pooling and nearest-neighbour upsampling; no paper of its own)."""

from collections.abc import Sequence

from torch import Tensor, nn

from src.models.components.layers import check_images, check_positive


class ConvAutoencoder(nn.Module):
    """Conv 3×3 → ReLU → MaxPool 2 for each width; then Conv 3×3 → ReLU → Upsample 2 back to an image.

    With a bottleneck, a dense layer maps the encoder's output to a code of a few numbers, and another maps it back.

    Filters are drawn from a normal distribution by their fan-in (He et al. 2015, arXiv 1502.01852); biases are zero.

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; a multiple of 2 for each width.
        channels: widths of the encoder's convolutions.
        bottleneck: numbers in the code, which is then an output as well; None: the last convolution gives the code.

    Raises:
        ValueError: a size below 1, or an image that cannot be halved that often.
    """

    def __init__(
        self, *, in_channels: int, image_size: int, channels: Sequence[int], bottleneck: int | None = None
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, channels=channels)
        if not channels:
            raise ValueError("channels=[] must have at least one width.")
        if image_size < 1 or image_size % 2 ** len(channels):
            raise ValueError(
                f"image_size={image_size} must be a multiple of {2 ** len(channels)}: it is halved for each of "
                f"channels={list(channels)}."
            )
        if bottleneck is not None:
            check_positive(bottleneck=bottleneck)
        self.in_channels, self.bottleneck = in_channels, bottleneck
        encoder: list[nn.Module] = []
        for width_in, width_out in zip([in_channels, *channels], channels, strict=False):
            encoder += [nn.Conv2d(width_in, width_out, kernel_size=3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        decoder: list[nn.Module] = []
        if bottleneck is not None:
            size = image_size // 2 ** len(channels)
            features = channels[-1] * size**2
            encoder += [nn.Flatten(), nn.Linear(features, bottleneck)]
            decoder += [nn.Linear(bottleneck, features), nn.Unflatten(1, (channels[-1], size, size)), nn.ReLU()]
        widths = list(reversed(channels))
        for width_in, width_out in zip([widths[0], *widths], widths, strict=False):
            decoder += [
                nn.Conv2d(width_in, width_out, kernel_size=3, padding=1),
                nn.ReLU(),
                nn.Upsample(scale_factor=2),
            ]
        decoder.append(nn.Conv2d(widths[-1], in_channels, kernel_size=3, padding=1))
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Map images (B, C, H, W) to images of that shape; with a bottleneck, to `image` and `code` (B, bottleneck)."""
        check_images(x, self.in_channels)
        code = self.encoder(x)  # (B, bottleneck), or (B, channels[-1], H / 2^n, W / 2^n)
        image = self.decoder(code)  # (B, C, H, W)
        return image if self.bottleneck is None else {"image": image, "code": code}
