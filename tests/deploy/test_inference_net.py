"""The inference copy of a net computes the same outputs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.config.paths import ROOT
from src.deploy.inference_net import has_attention, inference_copy, layers, trace
from tests.deploy.conftest import ATTENTIVE, AUTOENCODER, BOTTLENECK, FAMILIES, MULTIHEAD, unlike_new

SHAPE = (1, 28, 28)
NORMS = nn.BatchNorm1d | nn.BatchNorm2d


def logits(net: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        output = net(images)
    return torch.cat([values.flatten(1) for values in output.values()], 1) if isinstance(output, dict) else output


@pytest.mark.parametrize("name", [*FAMILIES, MULTIHEAD, AUTOENCODER, BOTTLENECK])
def test_it_computes_the_same_without_norms_finds_layers_by_name_and_leaves_the_net_alone(
    name: str, make_net: Callable[[str], nn.Module]
) -> None:
    net = make_net(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    copied = inference_copy(net, SHAPE)
    images = torch.randn(5, *SHAPE)
    assert torch.allclose(logits(copied, images), logits(net, images), atol=2e-4, rtol=1e-4)
    assert not [module for module in copied.modules() if isinstance(module, NORMS)]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in copied.parameters())
    wanted = [key for key, module in copied.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    program = trace(copied, SHAPE)
    assert sorted(layers(program).values()) == sorted(wanted)
    assert has_attention(program) == (name in ATTENTIVE)


def test_relu_comes_before_max_pool_and_pools_that_do_nothing_go(make_net: Callable[[str], nn.Module]) -> None:
    net = make_net("mnist_cnn_421k")
    kinds = [type(module).__name__ for module in inference_copy(net, SHAPE).features]
    assert kinds.index("ReLU") < kinds.index("MaxPool2d") and "AdaptiveAvgPool2d" not in kinds
    kinds = [type(module).__name__ for module in inference_copy(net, (1, 32, 32)).features]
    assert "AdaptiveAvgPool2d" in kinds  # from 8×8 to 7×7


class Twice(nn.Module):
    """Uses a norm twice, and a convolution whose output is used twice: neither may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.branch, self.own_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.second(self.norm(self.first(x))))
        x = self.branch(x)
        return self.head((self.own_norm(x) + x).mean(dim=(2, 3)))


def test_what_is_used_twice_is_not_folded() -> None:
    net = unlike_new(Twice())
    copied = inference_copy(net, SHAPE)
    assert isinstance(copied.norm, nn.BatchNorm2d) and isinstance(copied.own_norm, nn.BatchNorm2d)
    images = torch.randn(4, *SHAPE)
    assert torch.allclose(logits(copied, images), logits(net, images), atol=1e-5)


class Unusual(nn.Module):
    """A norm without running statistics, a normalised weight, a convolution padded to the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.norm = nn.Conv2d(1, 4, 3, padding="same"), nn.BatchNorm2d(4)
        self.second, self.batch_norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
        self.third, self.third_norm = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.third_norm(self.third(self.batch_norm(self.second(self.norm(self.same(x))))))
        return self.head(x.mean(dim=(2, 3)))


def test_unusual_layers_are_found_and_only_plain_ones_folded() -> None:
    net = unlike_new(Unusual())
    copied = inference_copy(net, SHAPE)
    assert sorted(layers(trace(copied, SHAPE)).values()) == ["head", "same", "second", "third"]
    assert isinstance(copied.norm, nn.Identity)
    assert isinstance(copied.batch_norm, nn.BatchNorm2d) and isinstance(copied.third_norm, nn.BatchNorm2d)
    images = torch.randn(4, *SHAPE)
    assert torch.allclose(logits(copied, images), logits(net, images), atol=1e-5)


class DataDependent(nn.Module):
    """Branches on its input's values, which cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] if x.sum() > 0 else -x.flatten(1)[:, :3]


def test_a_net_that_cannot_be_followed_is_refused_with_a_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"The net cannot be exported: torch.export cannot follow it\. .*data-dependent"
    ):
        trace(DataDependent(), SHAPE)


def test_warnings_of_libraries_go_to_the_log_and_not_amid_the_tables(tmp_path: Path) -> None:
    code = f"""
import warnings
from src.deploy.inference_net import quiet
from src.cli.entry_point import entry_point
@entry_point("compare")
def main(cfg):
    with quiet():
        warnings.warn("a library's own matter")
    warnings.warn("somebody else's")
import sys; sys.argv[1:] = ["hydra.run.dir={tmp_path}"]; main()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and "somebody else's" in result.stderr
    assert "a library's own matter" not in result.stdout + result.stderr
    assert "UserWarning: a library's own matter" in (tmp_path / "compare.log").read_text()
