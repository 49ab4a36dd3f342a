"""Every net: discovered automatically, built only from facts of the data, trainable in all its parameters."""

import importlib
import inspect
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from src.models import components
from src.models.components.resnet import ResNet
from src.models.components.simple_cnn import SimpleCNN
from src.models.components.simple_dense_net import SimpleDenseNet
from src.models.components.simple_mlp import SimpleMLP

NO_NETS = ("__init__", "layers", "whitening", "timm_net")  # parts, and a function that builds another library's nets
FILES = sorted(path.stem for path in Path(components.__path__[0]).glob("*.py") if path.stem not in NO_NETS)


def nets_in(file: str) -> list[type[nn.Module]]:
    """Return the nets that a file defines; modules without `image_size` or `length` are parts of them."""
    module = importlib.import_module(f"src.models.components.{file}")
    classes = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, nn.Module)]
    own = [value for value in classes if value.__module__ == module.__name__]
    return [value for value in own if {"image_size", "length"} & set(inspect.signature(value).parameters)]


def takes(net: type[nn.Module], *names: str) -> bool:
    return set(names) <= set(inspect.signature(net).parameters)


DENSE = ("unet",)  # files of nets with logits for each pixel, which have tests of their own
NETS = [net for file in FILES if file not in DENSE for net in nets_in(file) if takes(net, "num_classes", "image_size")]
SEQUENCE_NETS = [net for file in FILES for net in nets_in(file) if takes(net, "num_classes", "length")]
every_net = pytest.mark.parametrize("net_class", NETS, ids=lambda net: net.__name__)


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_components_holds_a_net(file: str) -> None:
    assert nets_in(file)


@every_net
@pytest.mark.parametrize(("channels", "size", "num_classes"), [(1, 28, 10), (3, 32, 100)])
def test_a_net_is_built_from_the_data_s_facts_and_learns_in_every_parameter(
    net_class: type[nn.Module], channels: int, size: int, num_classes: int
) -> None:
    torch.manual_seed(0)
    net = net_class(in_channels=channels, image_size=size, num_classes=num_classes)
    images = torch.randn(8, channels, size, size)
    logits = net(images)
    assert logits.shape == (8, num_classes)
    nn.functional.cross_entropy(logits, torch.arange(8)).backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert gradients
    for name, gradient in gradients.items():
        assert gradient is not None, f"{name} has no gradient"
        assert gradient.isfinite().all(), f"the gradient of {name} is not finite"
    # a net may start with parts at zero, whose neighbours then get no gradient; most of it must get some
    moved = [name for name, gradient in gradients.items() if gradient is not None and gradient.any()]
    assert len(moved) > len(gradients) / 2


@every_net
def test_a_net_takes_its_arguments_by_name_only(net_class: type[nn.Module]) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        net_class(1, 28, 10)


@every_net
@pytest.mark.parametrize("name", ["in_channels", "num_classes", "image_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_below_1_is_refused_by_name_and_value(net_class: type[nn.Module], name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} "):
        net_class(**{"in_channels": 1, "image_size": 28, "num_classes": 10, name: value})


@pytest.mark.parametrize(
    ("net_class", "name", "value"),
    [
        (SimpleDenseNet, "hidden_sizes", [64, 0]),
        (SimpleMLP, "hidden_sizes", [-1]),
        (SimpleCNN, "conv1_channels", 0),
        (SimpleCNN, "conv2_channels", 0),
        (SimpleCNN, "pool_size", 0),
        (SimpleCNN, "hidden_size", 0),
        (SimpleCNN, "image_size", 3),
    ],
)
def test_a_bad_size_of_its_own_is_refused_by_name_and_value(
    net_class: type[nn.Module], name: str, value: int | list[int]
) -> None:
    with pytest.raises(ValueError) as error:
        net_class(**{"in_channels": 1, "image_size": 28, "num_classes": 10, name: value})
    assert f"{name}={value} must be at least" in str(error.value)


@pytest.mark.parametrize(("net_class", "count"), [(SimpleDenseNet, 67_978), (SimpleMLP, 235_146), (SimpleCNN, 421_834)])
def test_the_defaults_have_the_number_of_parameters_that_is_told_of_them(
    net_class: type[nn.Module], count: int
) -> None:
    net = net_class(in_channels=1, image_size=28, num_classes=10)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


@pytest.mark.parametrize("net_class", [SimpleDenseNet, SimpleMLP])
@pytest.mark.parametrize("hidden_sizes", [[], [5], [7, 6, 5]], ids=str)
def test_a_dense_net_is_as_deep_as_its_list_of_sizes(net_class: type[nn.Module], hidden_sizes: list[int]) -> None:
    net = net_class(in_channels=1, image_size=4, num_classes=3, hidden_sizes=hidden_sizes)
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    assert [layer.out_features for layer in layers] == [*hidden_sizes, 3]
    assert net(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


def test_simple_mlp_trains_at_batch_size_1() -> None:
    net = SimpleMLP(in_channels=1, image_size=8, num_classes=10).train()
    before = [parameter.clone() for parameter in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    nn.functional.cross_entropy(net(torch.rand(1, 1, 8, 8)), torch.tensor([3])).backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("image_size", [4, 9, 40])
def test_simple_cnn_takes_images_of_other_sizes(image_size: int) -> None:
    net = SimpleCNN(in_channels=2, image_size=image_size, num_classes=3)
    assert net(torch.zeros(2, 2, image_size, image_size)).shape == (2, 3)


@pytest.mark.parametrize("net_class", [SimpleMLP, SimpleCNN])
def test_dropout_acts_in_training_only(net_class: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = net_class(in_channels=1, image_size=8, num_classes=3, dropout=0.5)
    images = torch.randn(4, 1, 8, 8)
    assert not torch.equal(net.train()(images), net(images))
    assert torch.equal(net.eval()(images), net(images))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_resnet_blocks_start_as_their_shortcuts_on_request(block: Literal["basic", "bottleneck"]) -> None:
    net = ResNet(
        in_channels=3, image_size=8, num_classes=2, depths=(1, 1), dims=(4, 8), block=block, zero_init_residual=True
    )
    features = net.stem(torch.randn(2, 3, 8, 8))
    for residual in net.blocks:
        shortcut = residual.shortcut(features).relu()
        features = residual(features)
        torch.testing.assert_close(features, shortcut)
