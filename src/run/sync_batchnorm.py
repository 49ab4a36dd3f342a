"""Synchronise BatchNorm statistics across processes on CPUs, too; torch's own does it on GPUs only."""

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(TorchSyncBatchNorm):
    """Compute the BatchNorm statistics of a model over all processes during training.

    On a CPU the layers keep their class, and `revert` restores the `forward` that is replaced.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Start sharing the statistics."""
        if next(model.parameters()).device.type != "cpu":
            return super().apply(model)
        for norm in batch_norms(model):
            norm.forward = MethodType(synced_forward, norm)  # type: ignore[method-assign]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Go back to per-process statistics."""
        for norm in batch_norms(model):
            vars(norm).pop("forward", None)
        return super().revert(model)


class AllReduceSum(torch.autograd.Function):
    """Sum a tensor over all processes; its gradient is summed as well."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Sum the tensor."""
        return all_reduced(own)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Sum the gradient."""
        return all_reduced(gradient)


def all_reduced(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total


def batch_norms(model: nn.Module) -> Iterator[_BatchNorm]:
    """Return every BatchNorm in a model."""
    return (module for module in model.modules() if isinstance(module, _BatchNorm))


def synced_forward(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    """Normalise the inputs (B, C, …) of this process with the statistics of all processes."""
    if not norm.training:
        return type(norm).forward(norm, inputs)
    dims = [0, *range(2, inputs.ndim)]
    shape = (1, -1, *[1] * (inputs.ndim - 2))
    values = inputs.float()
    own_count = values.new_tensor([values.numel() / values.shape[1]])
    sums = AllReduceSum.apply(torch.cat([values.sum(dims), own_count]))  # (C + 1,)
    count = sums[-1].detach()
    centred = values - (sums[:-1] / count).view(shape)
    var = AllReduceSum.apply(centred.square().sum(dims)) / count  # (C,)
    update_running_stats(norm, (sums[:-1] / count).detach(), (var * count / (count - 1)).detach())
    outputs = centred * (var + norm.eps).rsqrt().view(shape)
    if norm.affine:
        outputs = outputs * norm.weight.view(shape) + norm.bias.view(shape)
    return outputs.to(inputs.dtype)


@torch.no_grad()
def update_running_stats(norm: _BatchNorm, mean: Tensor, var: Tensor) -> None:
    """Update the running statistics of a BatchNorm from those of a batch, as torch does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    momentum = norm.momentum if norm.momentum is not None else 1 / norm.num_batches_tracked.item()
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(var, momentum)
