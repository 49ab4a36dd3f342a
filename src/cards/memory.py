"""How much memory the activations of a batch take."""

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
    """The memory of the activations of a batch, in bytes, without weights and without what kernels need inside.

    Args:
        peak: alive at once in a forward pass without gradients, at most; the input counts.
        kept: for the backward pass of training; the input counts if it is kept.
        peak_at: the most that is alive while the net is at a place.
        kept_at: what each place keeps that was not kept before.
    """

    peak: int = 0
    kept: int = 0
    peak_at: dict[Place, int] = field(default_factory=dict)
    kept_at: Counter[Place] = field(default_factory=Counter)


class Alive(TorchDispatchMode):
    """Sum the memory of all tensors that operations make, from when they are made to when nothing refers to them.

    Args:
        walk: says where the pass is.
        found: receives the peaks.
        weights: memory that is not counted, whatever views of it are made.
    """

    def __init__(self, walk: Walk, found: Activations, weights: set[int]) -> None:
        super().__init__()
        self._walk, self._found, self._weights = walk, found, weights
        self._now = 0
        self._known: dict[int, Any] = {}

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's memory, unless it is that of another one."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known and key not in self._weights:

            def end(_: Any) -> None:
                self._now -= size
                del self._known[key]

            self._known[key] = weakref.ref(storage, end)
            self._now += size
        place = self._walk.place
        self._found.peak = max(self._found.peak, self._now)
        self._found.peak_at[place] = max(self._found.peak_at.get(place, 0), self._now)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = op(*args, **(kwargs or {}))
        for one in tensors_of(result):
            self.add(one)
        return result


def activations(net: nn.Module, input_shape: Sequence[int], batch_size: int) -> Activations:
    """Return the memory of a net's activations for a batch of inputs (batch_size, *input_shape).

    They are counted for batches of 2 and 3, a single input being too few for BatchNorm in training. By what one more
    input adds, they follow for any batch: each tensor has a part for each input, and perhaps one that all share.
    """
    two, three = (count(net, example_inputs(size, input_shape)) for size in (2, 3))

    def grown(one: Mapping[Place, int], other: Mapping[Place, int]) -> dict[Place, int]:
        return {place: one[place] + (batch_size - 2) * (other[place] - one[place]) for place in one}

    peak_at, kept_at = grown(two.peak_at, three.peak_at), grown(two.kept_at, three.kept_at)
    return Activations(max(peak_at.values()), sum(kept_at.values()), peak_at, Counter(kept_at))


def count(net: nn.Module, inputs: Tensor) -> Activations:
    """Count the memory of the activations of inputs (B, …) in a forward pass for evaluation, and one for training."""
    found = Activations()
    weights = {one.untyped_storage()._cdata for one in (*net.parameters(), *net.buffers())}
    with evaluating(net), torch.no_grad(), Walk(net) as walk, Alive(walk, found, weights) as alive:
        alive.add(inputs)
        net(inputs)
    kept: dict[int, Any] = {}  # with the tensors, whose addresses would be given to others otherwise

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and storage._cdata not in kept:
            kept[storage._cdata] = tensor
            found.kept_at[walk.place] += storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with as_it_was(net), evaluating(net, training=True), torch.enable_grad(), Walk(net) as walk, hooks:
        net(inputs)
    found.kept = found.kept_at.total()
    return found


@contextmanager
def as_it_was(net: nn.Module) -> Iterator[None]:
    """Restore the buffers of a net, such as BatchNorm's statistics, and the random state after the context."""
    before = [one.clone() for one in net.buffers()]
    with torch.random.fork_rng(devices=[]):
        yield
    for buffer, values in zip(net.buffers(), before, strict=True):
        buffer.copy_(values)
