"""Synchronised BatchNorm on a CPU, compared with torch's BatchNorm over the whole batch."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from src.run.sync_batchnorm import SyncBatchNorm


@pytest.fixture
def all_reduce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two threads act as the processes that sum a tensor."""
    barrier, shares = threading.Barrier(2, timeout=60), {}

    def all_reduce_(tensor: Tensor) -> None:
        shares[threading.get_ident()] = tensor.clone()
        barrier.wait()
        tensor.copy_(sum(shares.values()))
        barrier.wait()
        shares.clear()
        barrier.wait()

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce_)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, momentum=None, affine=False)])
def test_two_processes_normalise_as_one_does(norm: nn.Module, all_reduce: None) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = 3 * torch.randn(7, 3, *[5, 5][: 2 * isinstance(norm, nn.BatchNorm2d)], generator=generator) + 1
    weights = torch.randn(inputs.shape, generator=generator)  # of the outputs, in the loss
    whole, parts = copy.deepcopy(norm), [copy.deepcopy(norm) for _ in range(2)]
    inputs.requires_grad_()
    for _ in range(2):
        expected = whole(inputs)
    (expected * weights).sum().backward()

    def part(rank: int) -> tuple[Tensor, Tensor]:
        SyncBatchNorm().apply(nn.Sequential(nn.Linear(1, 1), parts[rank]))
        own = inputs.detach()[rank::2].clone().requires_grad_()  # 4 samples, and 3
        for _ in range(2):
            outputs = parts[rank](own)
        (outputs * weights[rank::2]).sum().backward()
        return outputs, own.grad

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(part, (0, 1)))
    for rank, (outputs, gradient) in enumerate(results):
        torch.testing.assert_close(outputs, expected[rank::2], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, inputs.grad[rank::2], rtol=1e-4, atol=1e-5)
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(parts[rank].get_buffer(name), buffer)
    for name, parameter in whole.named_parameters():
        total = sum(part.get_parameter(name).grad for part in parts)
        torch.testing.assert_close(total, parameter.grad, rtol=1e-4, atol=1e-4)


def test_undone_a_layer_is_what_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    assert "forward" in vars(SyncBatchNorm().apply(net)[1])
    assert "forward" not in vars(SyncBatchNorm().revert(net)[1])
    assert type(net[1]) is nn.BatchNorm1d
