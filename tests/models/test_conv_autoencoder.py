"""The autoencoder: its published size, its code, and its initial weights."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.models.components.conv_autoencoder import ConvAutoencoder


def test_it_has_the_documented_number_of_parameters() -> None:
    net = ConvAutoencoder(in_channels=3, image_size=32, channels=[256, 128])
    assert sum(parameter.numel() for parameter in net.parameters()) == 751_875


def test_it_computes_what_is_documented_step_by_step() -> None:
    """Convolutions 3 → 256 → 128, each followed by a pool; 128 → 128 → 256, each followed by a doubling; 256 → 3."""
    net = ConvAutoencoder(in_channels=3, image_size=32, channels=[256, 128])
    first, second, third, fourth, last = (module for module in net.modules() if isinstance(module, nn.Conv2d))
    x = torch.randn(2, 3, 32, 32)

    def conv(images: Tensor, layer: nn.Conv2d) -> Tensor:
        assert layer.kernel_size == (3, 3)
        return F.conv2d(images, layer.weight, layer.bias, padding=1)

    with torch.no_grad():
        code = F.max_pool2d(F.relu(conv(F.max_pool2d(F.relu(conv(x, first)), 2), second)), 2)
        assert code.shape == (2, 128, 8, 8)
        wide = F.relu(conv(code, third)).repeat_interleave(2, 2).repeat_interleave(2, 3)  # nearest neighbours
        wide = F.relu(conv(wide, fourth)).repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(net(x), conv(wide, last))  # linear
        torch.testing.assert_close(net.encoder(x), code)


def test_a_bottleneck_gives_a_linear_code_of_its_size_as_a_second_output() -> None:
    net = ConvAutoencoder(in_channels=1, image_size=28, channels=[8, 4], bottleneck=5)
    images = torch.randn(16, 1, 28, 28)
    outputs = net(images)
    assert list(outputs) == ["image", "code"]
    assert outputs["image"].shape == images.shape and outputs["code"].shape == (16, 5)
    assert outputs["code"].min() < 0 < outputs["code"].max()
    with torch.no_grad():
        torch.testing.assert_close(net.decoder(outputs["code"]), outputs["image"])  # all that the decoder sees


@pytest.mark.parametrize(("size", "channels", "code"), [(28, [16, 12], (12, 7, 7)), (8, [4], (4, 4, 4))])
def test_an_image_becomes_a_code_and_an_image_of_the_same_shape(
    size: int, channels: list[int], code: tuple[int, ...]
) -> None:
    net = ConvAutoencoder(in_channels=2, image_size=size, channels=channels)
    images = torch.rand(3, 2, size, size)
    assert net.encoder(images).shape == (3, *code)
    assert net(images).shape == images.shape


def test_weights_start_by_their_fan_in_and_biases_at_zero() -> None:
    net = ConvAutoencoder(in_channels=3, image_size=32, channels=[256, 128])
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == 5
    for layer in layers:
        fan_in = 9 * layer.in_channels
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert layer.bias is not None and not layer.bias.any()


def test_no_width_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"channels=\[\] must have"):
        ConvAutoencoder(in_channels=1, image_size=28, channels=[])


@pytest.mark.parametrize(("size", "channels"), [(30, [8, 8]), (27, [8]), (0, [8])])
def test_a_size_that_cannot_be_halved_as_often_is_refused(size: int, channels: list[int]) -> None:
    with pytest.raises(ValueError, match=f"image_size={size} must be a multiple of {2 ** len(channels)}"):
        ConvAutoencoder(in_channels=1, image_size=size, channels=channels)


def test_a_bottleneck_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="bottleneck=0 must be at least 1"):
        ConvAutoencoder(in_channels=1, image_size=28, channels=[4], bottleneck=0)


@pytest.mark.parametrize("channels", [[0], [8, -1]])
def test_a_width_below_1_is_refused(channels: list[int]) -> None:
    with pytest.raises(ValueError, match="channels="):
        ConvAutoencoder(in_channels=1, image_size=28, channels=channels)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="net takes"):
        ConvAutoencoder(in_channels=1, image_size=28, channels=[4])(torch.zeros(2, 3, 28, 28))
