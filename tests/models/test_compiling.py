"""Whether a net can be compiled is tried on a copy."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from src.models.classifier import Classifier
from src.models.compiling import why_not_compilable


def test_the_reason_that_a_net_cannot_be_compiled_is_told_and_nothing_is_disturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such thing\nand more")

    cpu = torch.device("cpu")
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    images, wrong = torch.randn(4, 3), torch.randn(4, 7)
    torch.manual_seed(0)
    state, before = torch.get_rng_state(), [value.clone() for value in net.state_dict().values()]
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)
    assert why_not_compilable(net, images, device=cpu) is None
    monkeypatch.setattr(nn.Module, "compile", lambda self: self.register_forward_pre_hook(fail))
    assert why_not_compilable(net, images, device=cpu) == "RuntimeError: no such thing"
    assert why_not_compilable(net, wrong, device=cpu) is None  # it cannot be run like that, compiled or not
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, now) for value, now in zip(before, net.state_dict().values(), strict=True))


def test_it_is_tried_on_the_device_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        devices.append((inputs[0].device.type, next(module.parameters()).device.type))

    monkeypatch.setattr(nn.Module, "compile", lambda self: self.register_forward_pre_hook(look))
    net = nn.Linear(3, 3)
    model = Classifier(net, torch.optim.SGD, None, nn.CrossEntropyLoss(), (2, 3), score="a", mode="max", compile="auto")
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    model.trainer = SimpleNamespace(strategy=strategy, datamodule=None)  # type: ignore[assignment]
    model.setup("fit")
    assert devices[0] == ("meta", "meta") and net.weight.device.type == "cpu"
