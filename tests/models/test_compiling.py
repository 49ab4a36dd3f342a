"""Whether a net can be compiled is tried on a copy."""

import pytest
import torch
from torch import nn

from src.models.compiling import why_not_compilable


def test_the_reason_that_a_net_cannot_be_compiled_is_told_and_nothing_is_disturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such thing\nand more")

    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    images, wrong = torch.randn(4, 3), torch.randn(4, 7)
    torch.manual_seed(0)
    state, before = torch.get_rng_state(), [value.clone() for value in net.state_dict().values()]
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)
    assert why_not_compilable(net, images) is None
    monkeypatch.setattr(nn.Module, "compile", lambda self: self.register_forward_pre_hook(fail))
    assert why_not_compilable(net, images) == "RuntimeError: no such thing"
    assert why_not_compilable(net, wrong) is None  # it cannot be run like that, compiled or not
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, now) for value, now in zip(before, net.state_dict().values(), strict=True))
