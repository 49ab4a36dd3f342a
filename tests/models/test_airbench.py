"""airbench's net: the paper's sizes, and the outputs of its groups."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from src.models.components.airbench import AirbenchNet, Group
from src.models.components.whitening import Whitening


@pytest.mark.parametrize(
    ("options", "convolutions"),
    [
        ({}, [(24, 64), (64, 64), (64, 256), (256, 256), (256, 256), (256, 256)]),  # airbench94
        (
            {"dims": (128, 512, 512), "convolutions": 3},  # airbench96
            [(24, 128), (128, 128), (128, 128), (128, 512), *[(512, 512)] * 5],
        ),
    ],
)
def test_it_has_the_paper_s_layers(options: dict[str, object], convolutions: list[tuple[int, int]]) -> None:
    net = AirbenchNet(in_channels=3, image_size=32, num_classes=10, **options)  # type: ignore[arg-type]
    found = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in found] == convolutions
    weights = sum(9 * before * after for before, after in convolutions)
    outputs = [after for _, after in convolutions]
    ours = 24 + weights + 2 * sum(outputs) + 10 * outputs[-1] + 10
    assert sum(parameter.numel() for parameter in net.parameters()) == ours


def test_airbench94_has_the_1_97_million_parameters_of_the_paper() -> None:
    net = AirbenchNet(in_channels=3, image_size=32, num_classes=10)
    count = sum(parameter.numel() for parameter in net.parameters())
    scales_and_head_bias = sum(one.num_features for one in net.modules() if isinstance(one, nn.BatchNorm2d)) + 10
    assert round((count - scales_and_head_bias) / 1e6, 2) == 1.97


@pytest.mark.parametrize(("convolutions", "activation"), [(2, "relu"), (3, "relu"), (2, "gelu"), (3, "gelu")])
def test_a_group_computes_what_the_paper_says(convolutions: int, activation: str) -> None:
    torch.manual_seed(0)
    group = Group(3, 4, convolutions, activation).eval()
    act = F.relu if activation == "relu" else F.gelu
    images = torch.randn(2, 3, 8, 8)
    convs = [module for module in group.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in group.modules() if isinstance(module, nn.BatchNorm2d)]
    x = act(norms[0](F.max_pool2d(convs[0](images), 2)))
    if convolutions == 2:
        expected = act(norms[1](convs[1](x)))
    else:
        expected = act(norms[2](convs[2](act(norms[1](convs[1](x))))) + x)
    torch.testing.assert_close(group(images), expected)


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_it_starts_as_partial_identities_after_the_whitening_layer(kernel_size: int) -> None:
    net = AirbenchNet(in_channels=1, image_size=8, num_classes=3, dims=(24, 24), whitening={"kernel_size": kernel_size})
    assert isinstance(net.whitening, Whitening)
    features = torch.randn(2, net.whitening.out_channels, 8, 8)
    passed = net.groups[0].first[0](features)[:, : net.whitening.out_channels]
    torch.testing.assert_close(passed, features)
    other = AirbenchNet(in_channels=1, image_size=8, num_classes=3, dims=(24, 24), dirac=False)
    assert (other.groups[0].first[0].weight != 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolutions": 1}, "convolutions=1 must be at least 2"),
        ({"dims": (8, 8, 8, 8)}, "image_size=8 is too small to be halved for 4 groups"),
        ({"dims": (8, 8, 8), "whitening": {"stride": 2}}, "image_size=8 is too small to be halved for 3 groups"),
        ({"activation": "silu"}, "activation=silu must be one of gelu, relu"),
    ],
)
def test_a_value_that_makes_no_net_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AirbenchNet(in_channels=1, image_size=8, num_classes=3, **options)  # type: ignore[arg-type]
