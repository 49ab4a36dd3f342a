"""Simulate int8 in float32: find the most sensitive layers, and fine-tune with rounded values."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from src.models.task import Task

DECAY = 0.95  # of the running range of a layer's inputs
OBSERVED_BATCHES = 8  # before the fine-tuning begins


@runtime_checkable
class EpochSampler(Protocol):
    """A sampler whose order depends on the epoch; torch's own samplers draw a new order in every iteration."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""


class RoundedWeight(nn.Module):
    """Round a weight to 255 levels per output channel; gradients pass straight through."""

    def forward(self, weight: Tensor) -> Tensor:
        """Round a weight (out, …)."""
        scale = weight.detach().abs().flatten(1).amax(dim=1).clamp(min=1e-8) / 127  # (out,)
        zero_point = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero_point, 0, -127, 127)


class RoundedInput:
    """A hook that rounds a layer's input to 256 levels within the running range of its values."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self.observing = True

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Round the first of a module's inputs."""
        x, *others = inputs
        if self.observing:
            low, high = (float(edge) for edge in x.detach().aminmax())
            decay = DECAY if self.high > self.low else 0.0
            self.low = decay * self.low + (1 - decay) * min(low, 0.0)
            self.high = decay * self.high + (1 - decay) * max(high, 0.0)
        scale = max(self.high - self.low, 1e-8) / 255
        return torch.fake_quantize_per_tensor_affine(x, scale, round(-self.low / scale), 0, 255), *others


@contextmanager
def rounded(net: nn.Module, names: Iterable[str]) -> Iterator[list[RoundedInput]]:
    """Simulate int8 in the named convolutions and dense layers of a net within the context."""
    hooks, handles = [], []
    modules = list(dict.fromkeys(net.get_submodule(name) for name in names))  # one may have several names
    for module in modules:
        parametrize.register_parametrization(module, "weight", RoundedWeight())
        hooks.append(RoundedInput())
        handles.append(module.register_forward_pre_hook(hooks[-1]))
    try:
        yield hooks
    finally:
        for handle in handles:
            handle.remove()
        for module in modules:
            weight = module.parametrizations["weight"].original  # type: ignore[index, union-attr]
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            assert module.weight is weight, "fine-tuned weights are kept as they are before rounding"


@torch.no_grad()
def by_sensitivity(net: nn.Module, names: Sequence[str], images: Tensor) -> list[str]:
    """Sort layers by how much rounding each one alone changes the outputs (mean squared error), largest first."""
    net.eval()
    reference = flat_outputs(net(images))
    errors = {}
    for name in names:
        with rounded(net, [name]):
            errors[name] = (flat_outputs(net(images)) - reference).square().mean().item()
    return sorted(names, key=lambda name: -errors[name])


def flat_outputs(outputs: Tensor | dict[str, Tensor]) -> Tensor:
    """Flatten all outputs of each sample into one row (B, D)."""
    tensors = outputs.values() if isinstance(outputs, dict) else [outputs]
    return torch.cat([output.flatten(1) for output in tensors], dim=1)


def fine_tune(
    model: Task, net: nn.Module, names: Sequence[str], make_loader: Callable[[], Any], epochs: int, lr: float
) -> None:
    """Train a net for some epochs while its layers are rounded (Jacob et al. 2018, arXiv 1712.05877), in place.

    Args:
        model: the task, whose `step` computes the loss; it is not changed.
        net: see `inference_copy`; its norms are folded into its layers.
        names: names of the layers that are rounded.
        make_loader: returns the loader of training batches.
        epochs: number of epochs, with a learning rate that falls to 0 along a cosine.
        lr: the learning rate to start from.
    """
    task = copy.deepcopy(model, {id(model._trainer): None, id(model.net): net})  # the copy trains `net` itself
    loader = make_loader()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    with rounded(net, names) as hooks:
        net.eval()
        with torch.no_grad():
            for batch in islice(loader, OBSERVED_BATCHES):
                task.step(batch, task.train_metrics)
        net.train()
        for epoch in range(epochs):
            if isinstance(loader.sampler, EpochSampler):
                loader.sampler.set_epoch(epoch)
            for batch in loader:
                loss, _ = task.step(batch, task.train_metrics)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        for hook in hooks:
            hook.observing = False
    net.eval()
