"""Measure the memory of a batch's activations."""

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from src.cards.receptive_field import tensors_of
from src.cards.walk import Place, Walk, evaluating
from src.models.example_inputs import example_inputs


@dataclass
class Activations:
    """The memory of the activations of a batch, in bytes, without weights and without workspaces of kernels.

    Args:
        peak: peak memory in a forward pass without gradients, including the input.
        kept: memory saved for the backward pass, including the input if it is saved.
        peak_at: peak memory at each place in the net.
        kept_at: memory saved at each place that was not saved before.
    """

    peak: int = 0
    kept: int = 0
    peak_at: dict[Place, int] = field(default_factory=dict)
    kept_at: Counter[Place] = field(default_factory=Counter)


class Alive(TorchDispatchMode):
    """Track the memory of all tensors created by operations, from their creation until nothing refers to them.

    Args:
        walk: tracks the place in the forward pass.
        result: receives the peaks.
        weights: storages that are not counted, nor are views of them.
    """

    def __init__(self, walk: Walk, result: Activations, weights: set[int]) -> None:
        super().__init__()
        self._walk, self._result, self._weights = walk, result, weights
        self._now = 0
        self._known: dict[int, Any] = {}

    def add(self, tensor: Tensor) -> None:
        """Count the memory of a tensor, unless its storage is already counted."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known and key not in self._weights:

            def end(_: Any) -> None:
                self._now -= size
                del self._known[key]

            self._known[key] = weakref.ref(storage, end)
            self._now += size
        place = self._walk.place
        self._result.peak = max(self._result.peak, self._now)
        self._result.peak_at[place] = max(self._result.peak_at.get(place, 0), self._now)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = op(*args, **(kwargs or {}))
        for one in tensors_of(result):
            self.add(one)
        return result


def activations(net: nn.Module, input_shape: Sequence[int], batch_size: int) -> Activations:
    """Return the memory of a net's activations for a batch of inputs (batch_size, *input_shape).

    It is counted for batches of 2 and 3, as BatchNorm needs more than one input in training, and extrapolated linearly
    to the batch size: each tensor has a part for each input, and possibly one shared by all.
    """
    two, three = (count(net, example_inputs(size, input_shape)) for size in (2, 3))

    def extrapolated(two: Mapping[Place, int], three: Mapping[Place, int]) -> dict[Place, int]:
        return {place: two[place] + (batch_size - 2) * (three[place] - two[place]) for place in two}

    peak_at, kept_at = extrapolated(two.peak_at, three.peak_at), extrapolated(two.kept_at, three.kept_at)
    return Activations(max(peak_at.values()), sum(kept_at.values()), peak_at, Counter(kept_at))


def count(net: nn.Module, inputs: Tensor) -> Activations:
    """Count the activations' memory for inputs (B, …), in a forward pass for evaluation and in one for training."""
    result = Activations()
    weights = {one.untyped_storage()._cdata for one in (*net.parameters(), *net.buffers())}
    with evaluating(net), torch.no_grad(), Walk(net) as walk, Alive(walk, result, weights) as alive:
        alive.add(inputs)
        net(inputs)
    kept: dict[int, Any] = {}  # holds the tensors, so that their addresses are not reused

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and storage._cdata not in kept:
            kept[storage._cdata] = tensor
            result.kept_at[walk.place] += storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with restoring_state(net), evaluating(net, training=True), torch.enable_grad(), Walk(net) as walk, hooks:
        net(inputs)
    result.kept = result.kept_at.total()
    return result


@contextmanager
def restoring_state(net: nn.Module) -> Iterator[None]:
    """Restore the buffers of a net, such as BatchNorm's statistics, and the random state at the end of the context."""
    before = [one.clone() for one in net.buffers()]
    with torch.random.fork_rng(devices=[]):
        yield
    for buffer, values in zip(net.buffers(), before, strict=True):
        buffer.copy_(values)
