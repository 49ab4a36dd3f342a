"""Initialisation of airbench's nets (94% on CIFAR-10 in 3.29 Seconds on a Single GPU, Jordan 2024, arXiv 2404.00498).

Their first layer whitens the patches of the images, and the convolutions after it start as partial identities.

Differences from the paper: the whitening layer pads the image to keep its size, trains its bias to the end or not at
all, centres patches before it takes their covariance, and leaves out directions without variance.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.models.components.layers import check_positive

IMAGES_AT_ONCE = 16  # images whose patches are in memory: 0.2 GB for 224 px in RGB
NO_VARIANCE = 1e-6  # relative to the largest: less is a rounding error, as in grey images repeated to RGB


class Whitening(nn.Module):
    """Map each patch of an image to its principal components, scaled to a variance of about 1, and their negatives.

    The filters are a buffer, which no optimizer changes, and the bias is trained. Until `initialize_from` has seen
    training images, the filters are those for white noise: single pixels.

    Args:
        in_channels: channels of the image.
        kernel_size: height and width of a patch: 2 as in the paper, or more.
        stride: distance between patches in pixels; 2 with patches of 4 halves the image without losing information.
        bias: train a bias. Without one, the next layer computes no gradient of its input, which makes a step faster.
        eps: added to the variance of each component, so that faint ones, mostly noise, are amplified less.

    Raises:
        ValueError: a size below 1, or `eps` is not above 0.
    """

    def __init__(
        self, in_channels: int, kernel_size: int = 2, *, stride: int = 1, bias: bool = True, eps: float = 5e-4
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, kernel_size=kernel_size, stride=stride)
        if eps <= 0:
            raise ValueError(f"eps={eps} must be above 0.")
        self.kernel_size, self.stride, self.eps = kernel_size, stride, eps
        size = in_channels * kernel_size**2
        self.out_channels = 2 * size
        self.weight: Tensor
        filters = whitening_filters(torch.eye(size), eps)  # (2 * size, size)
        self.register_buffer("weight", filters.view(-1, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(self.out_channels)) if bias else None

    def is_initialized(self) -> bool:
        """Return whether the filters come from training images, in this run or in the one they were loaded from."""
        start = whitening_filters(torch.eye(self.out_channels // 2), self.eps)
        return not torch.equal(self.weight.cpu(), start.view_as(self.weight))

    @torch.no_grad()
    def initialize_from(self, images: Tensor) -> None:
        """Compute the filters from the patches of training images (B, C, H, W), normalised as in training.

        Raises:
            ValueError: the images do not have the shape that the layer takes.
        """
        if images.ndim != 4 or images.shape[1] != self.weight.shape[1]:
            raise ValueError(
                f"Whitening takes images (batch, {self.weight.shape[1]}, height, width), not {tuple(images.shape)}."
            )
        filters = whitening_filters(patch_covariance(images, self.kernel_size), self.eps)  # (2 * size, size)
        self.weight.copy_(filters.view_as(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to (B, 2 · C · kernel_size², H / stride, W / stride)."""
        if self.kernel_size % 2 == 0:
            x = F.pad(x, (0, 1, 0, 1))
        return F.conv2d(x, self.weight, self.bias, self.stride, padding=(self.kernel_size - 1) // 2)


def whitening_layers(in_channels: int, options: Mapping[str, Any] | None) -> tuple[list[nn.Module], int]:
    """Return `Whitening` with these options and a ReLU, or no layers for None, and their number of output channels."""
    if options is None:
        return [], in_channels
    whitening = Whitening(in_channels, **options)
    return [whitening, nn.ReLU(inplace=True)], whitening.out_channels


def patch_covariance(images: Tensor, kernel_size: int) -> Tensor:
    """Return the covariance (D, D), D = C · kernel_size², of all patches of images (B, C, H, W), in float64."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for part in images.split(IMAGES_AT_ONCE):
        patches = F.unfold(part.double(), kernel_size).transpose(1, 2).flatten(0, 1)  # (patches, D)
        count += len(patches)
        total = total + patches.sum(dim=0)  # (D,)
        products = products + patches.T @ patches  # (D, D)
    mean = total / count
    return products / count - mean.outer(mean)


def whitening_filters(covariance: Tensor, eps: float) -> Tensor:
    """Return eigenvectors vᵢ / √(λᵢ + eps) of a covariance (D, D), zeros where λᵢ is 0, and their negatives.

    Returns:
        (2 D, D), the strongest first.
    """
    variances, components = torch.linalg.eigh(covariance)  # (D,), ascending; (D, D), in columns
    scales = (variances + eps).rsqrt().where(variances > NO_VARIANCE * variances[-1], 0.0)
    filters = (components * scales).T.flip(0)  # (D, D)
    return torch.cat([filters, -filters])


def start_as_identity(net: nn.Module) -> None:
    """Initialise convolutions larger than 1×1, except a net's first layer, to copy their input to their first channels.

    Further output channels keep their random initialisation.
    """
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d | Whitening)]
    for convolution in convolutions[1:]:
        if isinstance(convolution, nn.Conv2d) and convolution.groups == 1 and max(convolution.kernel_size) > 1:
            with torch.no_grad():
                nn.init.dirac_(convolution.weight[: convolution.in_channels])  # (C, C, K, K)
