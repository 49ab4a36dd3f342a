"""Dead channels are counted along the channel axis; filters come from the first layer."""

import pytest
import torch
from torch import nn

from src.explanation.units import dead_units, first_filters, units_section
from src.models.components.convnext import ConvNeXt
from src.models.components.layers import MLP
from tests.explanation.conftest import MakeSubject


def test_channels_that_never_fire_are_counted(make_subject: MakeSubject) -> None:
    conv = nn.Conv2d(1, 5, 3, padding=1)
    nn.init.zeros_(conv.weight)
    conv.bias.data = torch.tensor([-1.0, 1.0, -1.0, 0.0, 2.0])  # 0 does not fire
    linear = nn.Linear(5 * 64, 3)
    nn.init.zeros_(linear.weight)
    linear.bias.data = torch.tensor([1.0, -1.0, 1.0])
    net = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), linear, nn.GELU(), nn.Linear(3, 4))
    subject = make_subject(net)
    assert dead_units(subject, subject.splits["test"]) == {"1": (3, 5), "4": (1, 3)}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    section = units_section(subject)
    assert section.figures["dead"] == 4 and "4 of 8 channels are" in section.note


def test_channels_are_last_after_a_linear_layer(make_subject: MakeSubject) -> None:
    block = MLP(8, 6)
    nn.init.zeros_(block[0].weight)
    block[0].bias.data = torch.tensor([1.0, -1, 1, 1, 1, 1])
    net = nn.Sequential(
        nn.Unflatten(3, (1, 8)), nn.Flatten(1, 2), nn.Flatten(1, 2), block, nn.Flatten(), nn.Linear(64, 4)
    )
    subject = make_subject(net)
    assert dead_units(subject, subject.splits["test"]) == {"3.1": (1, 6)}
    convnext = ConvNeXt(in_channels=1, image_size=8, num_classes=4, dims=[4, 6], depths=[1, 1])
    subject = make_subject(convnext)
    assert [channels for _, channels in dead_units(subject, subject.splits["test"]).values()] == [16, 24]


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 3)), None),
        (nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU()), (6, 1, 3, 3)),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), (7, 1, 8, 8)),
        (nn.Sequential(nn.Flatten(), nn.Linear(32, 7)), None),
    ],
    ids=["a pixel alone", "convolution", "linear", "another linear"],
)
def test_the_first_layers_filters(net: nn.Module, shape: tuple[int, ...] | None) -> None:
    found = first_filters(net, (1, 8, 8))
    assert (found and tuple(found[1].shape)) == shape
