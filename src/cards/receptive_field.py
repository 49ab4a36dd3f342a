"""The theoretical receptive field of every tensor in a forward pass: the part of the input its values depend on.

It is exact for convolutions (strided, dilated, transposed), pooling, upsampling, norms, attention, recurrences, and
operations that only move values. Theoretical means for any weights, and including the padding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from src.cards.reach import MOVES, RESHAPES, RULES, elementwise, everything
from src.cards.windows import NOWHERE, shrunk
from src.models.example_inputs import are_tokens


@dataclass(frozen=True)
class Field:
    """The receptive field of a tensor.

    Args:
        sizes: largest number of positions along each axis that one of its values depends on.
        is_whole: whether every value depends on all positions.
    """

    sizes: tuple[int, ...]
    is_whole: bool


class ReceptiveFields:
    """Track receptive fields through the operations of a forward pass.

    Args:
        inputs: images (1, C, H, W), series (1, T, F) or tokens (1, T).

    Attributes:
        unknown: names of operations without a rule, treated as if they mixed all positions.
    """

    def __init__(self, inputs: Tensor) -> None:
        axes = [2, 3] if inputs.ndim == 4 else [1]
        self.lengths = [inputs.shape[axis] for axis in axes]
        self.unknown: set[str] = set()
        maps = []
        for axis, length in zip(axes, self.lengths, strict=True):
            shape = [-1 if one == axis else 1 for one in range(inputs.ndim)]
            positions = torch.arange(length, dtype=torch.float32).view(shape).expand(inputs.shape)
            maps += [positions, -positions]
        self._maps: Any = WeakTensorKeyDictionary()
        self._maps[inputs] = maps
        self._are_tokens = are_tokens(inputs.shape[1:])

    def follow(self, op: Any, arguments: tuple[Any, ...], options: dict[str, Any], result: Any) -> None:
        """Derive the maps of an operation's results, except for indices and masks (integers and booleans)."""
        known = [one for one in tensors_of((arguments, options)) if one in self._maps]
        outs = [one for one in tensors_of(result) if one.is_floating_point() or (self._are_tokens and is_move(op))]
        if not known or not outs:
            return
        maps: list[list[Tensor]] = [[] for _ in outs]
        for number in range(2 * len(self.lengths)):
            lows, others = self._maps_of(arguments, number), self._maps_of(options, number)
            for place, low in enumerate(self._derive(op, lows, others, outs)):
                maps[place].append(low)
        for out, lows in zip(outs, maps, strict=True):
            self._maps[out] = lows

    def _maps_of(self, node: Any, number: int) -> Any:
        """Return arguments with tensors replaced by their maps; indices and masks stay."""
        if isinstance(node, Tensor):
            if node in self._maps:
                return self._maps[node][number]
            return torch.full((), NOWHERE).expand(node.shape) if node.is_floating_point() else node
        if isinstance(node, dict):
            return {key: self._maps_of(value, number) for key, value in node.items()}
        return type(node)(self._maps_of(one, number) for one in node) if isinstance(node, list | tuple) else node

    def _derive(self, op: Any, maps: Any, options: dict[str, Any], outs: Sequence[Tensor]) -> list[Tensor]:
        name = op._schema.name.removeprefix("aten::")
        if name in RESHAPES:  # the memory layouts of a map and its tensor may differ
            return [maps[0].reshape(outs[0].shape)]
        if is_move(op) and name not in RULES:
            if name.endswith("_"):  # in-place
                maps = (maps[0].detach(), *maps[1:])
            moved = op(*maps, **options)
            return [moved] if isinstance(moved, Tensor) else list(moved)[: len(outs)]
        if name == "copy_":
            return [maps[1].expand(outs[0].shape)]
        if name in RULES:
            rule = RULES[name]
        elif torch.Tag.pointwise in op.tags:
            rule = elementwise
            maps = tuple(one for one in maps if isinstance(one, Tensor) and one.is_floating_point())
        else:
            self.unknown.add(name)
            rule = everything
        return [rule(op, maps, options, out) if out.shape == outs[0].shape else everything(op, maps, options, out)
                for out in outs]  # fmt: skip

    def of(self, tensor: Tensor) -> Field | None:
        """Return the receptive field of a tensor; None if it does not depend on the input."""
        if tensor not in self._maps:
            return None
        maps = self._maps[tensor]
        sizes, is_whole = [], True
        for length, low, high in zip(self.lengths, maps[::2], maps[1::2], strict=True):
            low, high = torch.broadcast_tensors(shrunk(low), -shrunk(high))
            used = low.isfinite()
            if not used.any():
                return None
            low, high = low[used], high[used]
            sizes.append(math.ceil((high - low).max().item() - 1e-3) + 1)
            is_whole &= bool((low <= 0).all() and (high >= length - 1).all())
        return Field(tuple(sizes), is_whole)


def tensors_of(node: Any) -> list[Tensor]:
    """List the tensors in nested tuples, lists and dicts."""
    if isinstance(node, Tensor):
        return [node]
    if isinstance(node, dict):
        node = list(node.values())
    return [one for part in node for one in tensors_of(part)] if isinstance(node, list | tuple) else []


def is_move(op: Any) -> bool:
    """Return whether an operation only moves values: a view, or one of `MOVES`."""
    return op._schema.name.removeprefix("aten::") in MOVES or is_view(op)


def is_view(op: Any) -> bool:
    """Return whether an operation's result shares memory with its argument, and nothing is written."""
    aliases = [one.alias_info for one in op._schema.returns if one.alias_info is not None]
    return bool(aliases) and not any(one.is_write for one in aliases)
