"""The size of a net on disk: its weights, with and without the optimizer's state, and as int8."""

from typing import Any

import torch
from torch import Tensor, nn

from src.cards.receptive_field import tensors_of
from src.models.components.whitening import Whitening
from src.models.task import Task
from src.run.used_weights import SwitchesWeights

SCALE = 4  # bytes: one float32 for each row of an int8 weight
QUANTIZED = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.RNNBase, nn.Embedding, Whitening),
)


def weights_bytes(net: nn.Module) -> int:
    """Return the size of all parameters and persistent buffers, in bytes."""
    return sum(tensor.nbytes for tensor in net.state_dict().values() if isinstance(tensor, Tensor))


def optimizer_bytes(task: Task) -> int:
    """Return the size of the optimizer's state after a step, in bytes, by stepping one parameter at a time.

    The learning rate and the gradients are 0, so that the weights do not change.
    """
    optimizer = task.make_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
    if isinstance(optimizer, SwitchesWeights):
        optimizer.train()
    total = 0
    for parameter in [one for group in optimizer.param_groups for one in group["params"]]:
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        parameter.grad = None
        total += sum(one.nbytes for one in tensors_of(dict(optimizer.state.pop(parameter, {}))))
    return total


def int8_bytes(net: nn.Module) -> int:
    """Estimate the size in bytes with int8 weights for matrices and convolutions, and a scale for each row."""
    total = weights_bytes(net)
    seen: set[int] = set()
    for module in net.modules():
        if not isinstance(module, QUANTIZED):
            continue
        own: list[Any] = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        for weight in (one for one in own if one.ndim > 1 and id(one) not in seen):
            seen.add(id(weight))
            total -= weight.nbytes - weight.numel() - SCALE * len(weight)
    return total
