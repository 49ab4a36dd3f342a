"""The layers of small nets: sizes, MACs and receptive fields, compared to counts by hand."""

from collections.abc import Callable
from typing import Any

import hydra
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from src.cards.layers import Layer, Trace, trace
from src.config.paths import CONFIGS
from src.models.components.conv_autoencoder import ConvAutoencoder
from src.models.components.layers import Attention
from src.models.components.unet import UNet
from src.models.counting import count_macs, count_parameters
from src.models.example_inputs import example_inputs
from src.run.instantiate import instantiate


def layers_of(net: nn.Module, *shape: int) -> list[Layer]:
    layers, unknown = trace(net, example_inputs(1, shape))
    assert not unknown
    return layers


def test_the_autoencoder_of_752k_is_reproduced_line_by_line() -> None:
    net = ConvAutoencoder(in_channels=3, image_size=32, channels=[256, 128])
    layers = layers_of(net, 3, 32, 32)
    assert [one.kind for one in layers] == (
        [
            "Conv2d",
            "MaxPool2d",
            "ReLU",
            "Conv2d",
            "MaxPool2d",
            "ReLU",
            "Conv2d",
            "ReLU",
            "Upsample",
            "Conv2d",
            "ReLU",
            "Upsample",
            "Conv2d",
        ]
    )
    convolutions = [one for one in layers if one.kind == "Conv2d"]
    assert [one.params for one in convolutions] == [7168, 295040, 147584, 295168, 6915]
    # outputs of a convolution times the weights used for each
    expected = [256 * 27 * 32 * 32, 128 * 2304 * 16 * 16, 128 * 1152 * 8 * 8, 256 * 1152 * 16 * 16, 3 * 2304 * 32 * 32]
    assert [one.macs for one in convolutions] == expected
    assert sum(one.params for one in layers) == 751_875 and sum(one.macs for one in layers) == sum(expected)
    # down: 3, + 1 by pooling, + 2 · 2 at half the resolution, + 2 by pooling, + 2 · 4 at a quarter.
    # up: three neighbours at half the resolution lie in two positions of the quarter, 4 px apart; three neighbours at
    # the full one lie in two of the half, whose neighbours are four, which lie in three of the quarter: 18 + 2 · 4
    assert [one.sees for one in layers] == [(size, size) for size in (3, 4, 4, 8, 10, 10, 18, 18, 18, 22, 22, 22, 26)]
    assert layers[0].shape == (256, 32, 32) and layers[7].shape == (128, 8, 8) and layers[-1].shape == (3, 32, 32)
    assert not any(one.sees_all for one in layers)
    assert [one.kernel for one in convolutions] == ["3×3"] * 5 and layers[1].kernel == "2×2 /2"


class Functional(nn.Module):
    """A net that runs a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def conv(kernel: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(1, 1, kernel, **options)


CASES: dict[str, tuple[list[nn.Module], list[int]]] = {
    "plain": ([conv(3), conv(3), conv(5)], [3, 5, 9]),
    "padded": ([conv(3, padding=1), conv(3, padding=1)], [3, 5]),
    "strided": ([conv(3, stride=2, padding=1), conv(3, padding=1), conv(1, stride=2), conv(3)], [3, 7, 7, 15]),
    "dilated": ([conv(3, dilation=2), conv(3, dilation=4, padding=4)], [5, 13]),
    "max pool": ([nn.MaxPool2d(2), conv(3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)], [2, 6, 10]),
    "average pool": ([nn.AvgPool2d(2), conv(3)], [2, 6]),
    # output 2 i + 1 of three taps at a stride of 2 reads the positions i and i + 1, the others one
    "transposed": ([conv(3), nn.ConvTranspose2d(1, 1, 2, stride=2), nn.ConvTranspose2d(1, 1, 3, stride=2)], [3, 3, 4]),
    "nearest": ([conv(3), nn.Upsample(scale_factor=2), conv(3)], [3, 3, 4]),
    "bilinear": ([conv(3), nn.Upsample(scale_factor=2, mode="bilinear")], [3, 4]),
    "norms": ([conv(3), nn.BatchNorm2d(1), nn.ReLU(inplace=True), nn.GELU()], [3, 3, 3, 3]),
    "adaptive pool": ([nn.AdaptiveAvgPool2d(4)], [8]),
    "cropped": ([conv(3), Functional(lambda x: x[..., 1:-1, 1:-1].flip(3)), conv(3)], [3, 3, 5]),
    "channels last": ([Functional(lambda x: x.permute(0, 2, 3, 1) + 1), nn.LayerNorm(1)], [1, 1]),
    "grouped": ([nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 3, groups=2)], [3, 5, 7]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_receptive_field_is_that_counted_by_hand(name: str) -> None:
    modules, expected = CASES[name]
    found = {one.name: one.sees for one in layers_of(nn.Sequential(*modules), 1, 32, 32)}
    assert [found[str(number)] for number in range(len(modules))] == [(size, size) for size in expected]


POSITIONED = {name: CASES[name][0] for name in ("strided", "max pool", "transposed", "nearest", "bilinear", "dilated")}


@pytest.mark.parametrize("name", POSITIONED)
def test_what_a_position_sees_is_where_its_gradient_is(name: str) -> None:
    net = nn.Sequential(*(nn.AvgPool2d(2) if isinstance(one, nn.MaxPool2d) else one for one in POSITIONED[name]))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 1.0)
    inputs = torch.ones(1, 1, 48, 48)
    with torch.no_grad(), Trace(net, inputs) as tracer:
        output = net(inputs)
    low, high = (one.expand(output.shape)[0, 0, :, 5] for one in tracer.fields._maps[output][:2])
    inside = [row for row in range(output.shape[2]) if low[row] >= 0 and -high[row] < 48]  # not seeing the padding
    assert len(inside) > 1
    for row in inside:
        image = inputs.clone().requires_grad_()
        net(image)[0, 0, row, 5].backward()
        assert image.grad is not None
        rows = image.grad[0, 0].sum(dim=1).nonzero().flatten()
        assert (low[row].item(), -high[row].item()) == (rows[0].item(), rows[-1].item())


def test_padding_counts_on_an_image_that_is_smaller_than_what_is_seen() -> None:
    layers = layers_of(nn.Sequential(*(conv(3, padding=1) for _ in range(4))), 1, 4, 4)
    assert [one.sees for one in layers] == [(3, 3), (5, 5), (7, 7), (9, 9)]


@pytest.mark.parametrize(
    "module",
    [
        Functional(lambda x: x.mean(dim=(2, 3))),
        Functional(lambda x: x.amax(dim=(2, 3), keepdim=True) * x),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 2)),
        nn.GroupNorm(1, 1),
        nn.Sequential(
            Functional(lambda x: x.flatten(2).transpose(1, 2).expand(-1, -1, 8).contiguous()), Attention(8, 2)
        ),
    ],
    ids=["mean", "gate", "dense", "group norm", "attention"],
)
def test_what_mixes_all_positions_sees_the_whole_input(module: nn.Module) -> None:
    last = layers_of(nn.Sequential(conv(1), module), 1, 8, 8)[-1]
    assert last.sees_all and last.sees == (8, 8)


class Residual(nn.Module):
    """Two convolutions, and a shortcut with a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.skip = conv(3, padding=1), conv(5, padding=2), conv(1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.skip(x))


def test_a_sum_sees_what_its_widest_part_does_and_names_its_sources() -> None:
    first, second, skip, total = layers_of(Residual(), 1, 16, 16)
    assert [one.sees for one in (first, second, skip, total)] == [(3, 3), (7, 7), (1, 1), (7, 7)]
    assert (total.name, total.kind, total.is_module) == ("", "add · relu", False)
    assert total.sources == {1, 2} and first.sources == skip.sources == {-1}


def test_a_unet_joins_what_the_skip_and_the_way_below_see() -> None:
    net = UNet(in_channels=1, num_classes=2, image_size=16, dims=[2, 4])
    layers = {one.name: one for one in layers_of(net, 1, 16, 16)}
    assert layers["down.0.1.0"].sees == (5, 5)
    assert layers["down.1.1.0"].sees == (14, 14)  # 5, + 1 by pooling, + 2 · 2 · 2
    assert layers["up.0.upsample"].sees == (14, 14) and layers["up.0.upsample"].kernel == "2×2 /2"
    joined = layers["up.0"]
    assert joined.kind == "concatenate" and joined.shape == (4, 16, 16) and len(joined.sources) == 2
    assert layers["head"].sees == (18, 18)  # of five neighbours, in three positions below: 14 + 2 · 2
    assert layers["head"].shape == (2, 16, 16)


def test_the_products_of_attention_belong_to_the_module_that_computes_them() -> None:
    layers = {one.name: one for one in layers_of(Attention(8, 2), 5, 8)}
    assert layers["qkv"].macs == 5 * 8 * 24 and layers["proj"].macs == 5 * 8 * 8
    assert layers[""].kind == "attention" and layers[""].macs == 2 * 5 * 5 * 8  # q · k and the weighted sum of v
    assert layers["qkv"].params == 8 * 24 + 24


def test_a_recurrence_sees_the_steps_before_and_a_causal_convolution_too() -> None:
    class Last(nn.Module):
        def __init__(self, bidirectional: bool) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=bidirectional)
            self.head = nn.Linear(4 * (1 + bidirectional), 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, 2])

    assert layers_of(Last(False), 6, 3)[-1].sees == (3,)  # steps 0 to 2
    assert layers_of(Last(True), 6, 3)[-1].sees_all


def test_parameters_of_modules_that_are_not_called_are_counted_too() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.unused, self.scale = nn.Linear(4, 4), nn.Linear(4, 2), nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.inner.weight, self.inner.bias) * self.scale

    net = Own()
    (only,) = layers_of(net, 3, 4)
    assert only.params == count_parameters(net) == 20 + 10 + 4 and only.macs == 3 * 16


def test_an_operation_without_a_rule_counts_as_mixing_everything_and_is_named() -> None:
    layers, unknown = trace(nn.Sequential(Functional(lambda x: x.sort(dim=1).values)), torch.randn(1, 4, 1))
    assert unknown == {"sort"} and layers[-1].sees_all


NAMED = ["mnist_sdn_8k", "cifar10_vit_210k", "mnist_mobilevit_210k", "text_lstm_210k", "rows_gru_64k", "co2_tcn_9k"]
NAMED += ["mnist_mh_cnn_422k", "mnist_airbench_64k", "cifar10_convnext_64k", "scenes_unet_64k", "mnist_autoencoder_58k"]
NAMED += ["cifar10_regnet_210k", "mnist_efficientnet_22k"]


@pytest.mark.parametrize("name", NAMED)
def test_the_sums_over_the_layers_of_a_named_net_are_its_counts(name: str) -> None:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg: DictConfig = hydra.compose("describe", [f"model={name}"])
    task = instantiate(cfg.model)
    inputs = example_inputs(1, cfg.model.input_shape)
    layers, unknown = trace(task.net, inputs)
    assert not unknown
    assert sum(one.params for one in layers) == count_parameters(task)
    assert sum(one.macs for one in layers) == count_macs(task.net, inputs)
    assert all(one.kind and one.sees for one in layers if one.operations)
