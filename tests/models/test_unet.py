"""The U-Net: its published size, its skips, and images of any size."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from src.models.components.unet import UNet
from src.models.counting import count_parameters


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        assert count_parameters(UNet(in_channels=3, num_classes=1)) == 31_037_633
        assert count_parameters(UNet(in_channels=3, num_classes=1, upsampling="bilinear")) == 31_384_833


def settled(upsampling: str = "transposed") -> UNet:
    torch.manual_seed(0)
    net = UNet(in_channels=3, num_classes=4, dims=[6, 8, 10], upsampling=upsampling)
    net.train()(torch.randn(8, 3, 16, 16))  # so that norms have statistics
    return net.eval()


def reference(x: Tensor, weights: list[Tensor], upsampling: str) -> Tensor:
    """Compute the paper's figure 1 with three levels, by torch's functions, from the weights in the net's order."""
    parts = iter(weights)

    def conv_twice(x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.conv2d(x, next(parts), padding=1)
            scale, shift, mean, var, _ = (next(parts) for _ in range(5))
            x = F.relu(F.batch_norm(x, mean, var, scale, shift))
        return x

    def up(x: Tensor) -> Tensor:
        if upsampling == "bilinear":
            return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return F.conv_transpose2d(x, next(parts), next(parts), stride=2)

    top = conv_twice(x)
    middle = conv_twice(F.max_pool2d(top, 2))
    bottom = conv_twice(F.max_pool2d(middle, 2))
    middle = conv_twice(torch.cat([middle, up(bottom)], dim=1))
    top = conv_twice(torch.cat([top, up(middle)], dim=1))
    return F.conv2d(top, next(parts), next(parts))


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@torch.no_grad()
def test_it_computes_what_the_paper_draws(upsampling: str) -> None:
    net, images = settled(upsampling), torch.randn(2, 3, 12, 20)
    wanted = reference(images, list(net.state_dict().values()), upsampling)
    torch.testing.assert_close(net(images), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_images_of_any_size_are_padded_and_the_output_is_cropped() -> None:
    net = settled()
    for height, width in [(1, 1), (13, 18), (16, 5)]:
        images = torch.randn(1, 3, height, width)
        padded = F.pad(images, (0, -width % 4, 0, -height % 4))
        output = net(images)
        assert output.shape == (1, 4, height, width)
        torch.testing.assert_close(output, net(padded)[:, :, :height, :width])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": [8]}, r"dims=\[8\] must have at least two levels"),
        ({"dims": [8, 0]}, "must be at least 1"),
        ({"upsampling": "nearest"}, "upsampling=nearest must be one of transposed, bilinear"),
        ({"num_classes": 0}, "num_classes=0"),
    ],
    ids=str,
)
def test_impossible_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**{"in_channels": 1, "num_classes": 2, "dims": [4, 8], **changes})


def test_an_image_of_another_size_than_it_was_built_for_is_refused() -> None:
    net = UNet(in_channels=1, num_classes=2, image_size=16, dims=[4, 8])
    with pytest.raises(ValueError, match="the net takes"):
        net(torch.zeros(1, 1, 8, 8))
