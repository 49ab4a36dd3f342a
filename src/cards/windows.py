"""Windows of convolutions and pooling on maps of input positions; see `src.cards.reach`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

NOWHERE = math.inf  # for values that depend on no position: weights and constants
PERIODS = (1, 2, 4, 8, 16, 32)  # periods with which a map may repeat; upsampling, for example, repeats positions


def shrunk(low: Tensor, *kept: int) -> Tensor:
    """Reduce a map to one position along the axes along which it is constant (stride 0), except for the axes `kept`.

    The lowest row, for example, is the same for all channels and columns, so that most of a map need not be computed.
    """
    for axis in range(low.ndim):
        if low.stride(axis) == 0 and low.shape[axis] > 1 and axis not in kept:
            low = low.narrow(axis, 0, 1)
    return low


def constant(low: Tensor, axis: int, size: int) -> Tensor:
    """Return a map, constant along an axis, with another size along that axis."""
    return low.narrow(axis, 0, 1).expand(*low.shape[:axis], size, *low.shape[axis + 1 :])


def least(low: Tensor, axes: Any) -> Tensor:
    """Return the minimum of a map over axes, which are kept with size 1."""
    axes = [axes] if isinstance(axes, int) else list(axes)
    shape = list(low.shape)
    for axis in axes:
        shape[axis] = 1
    return shrunk(low).amin(axes, keepdim=True).expand(shape)


def tapped(low: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
           sizes: Sequence[int]) -> Tensor:  # fmt: skip
    """Return the minimum in each window of a convolution or pooling over a map (…, *S).

    Args:
        low: the map.
        kernel: size of a window along each of the last axes, as for the following arguments.
        stride: distance between windows.
        padding: positions before the first.
        dilation: distance between positions in a window.
        sizes: number of windows along each axis.
    """
    first = low.ndim - len(kernel)
    for axis, (k, s, p, d, size) in enumerate(zip(kernel, stride, padding, dilation, sizes, strict=True), first):
        span = (k - 1) * d + 1
        after = (size - 1) * s + span - low.shape[axis] - p
        if low.stride(axis) == 0:
            low = constant(low, axis, size)
            continue
        shape = list(low.shape)
        shape[axis] = size
        padded = extended(shrunk(low, axis), axis, p, max(after, 0))
        low = padded.unfold(axis, span, s).narrow(axis, 0, size)[..., ::d].amin(-1).expand(shape)
    return low


def spread(low: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
           sizes: Sequence[int]) -> Tensor:  # fmt: skip
    """Return the map after a transposed convolution: position i reaches i · stride - padding + kernel; see `tapped`."""
    first = low.ndim - len(kernel)
    for axis, (k, s, p, d, size) in enumerate(zip(kernel, stride, padding, dilation, sizes, strict=True), first):
        shape = list(low.shape)
        shape[axis] = size
        if low.stride(axis) == 0:
            low = constant(low, axis, size)
            continue
        low = shrunk(low, axis)
        reach = (k - 1) * d
        more = reach // s + 1
        wide = extended(low, axis, more, more + math.ceil((size + p) / s) - low.shape[axis] + 1)
        stuffed = wide.new_full((*wide.shape, s), NOWHERE)
        stuffed[..., 0] = wide
        stuffed = stuffed.movedim(-1, axis + 1).flatten(axis, axis + 1)  # nothing between positions
        start = more * s + p - reach  # start of the window of output 0
        low = stuffed.narrow(axis, start, size + reach).unfold(axis, reach + 1, 1)[..., ::d].amin(-1)
        low = low.expand(shape)
    return low


def extended(low: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Extrapolate a map beyond its ends with its own step."""
    if not before and not after:
        return low
    size = low.shape[axis]
    period, step = steps(low, axis)
    places = torch.arange(-before, size + after)
    left, right = places < 0, places >= size
    base = torch.where(right, size - period + (places - size) % period, places)
    base = torch.where(left, places % period, base)
    times = torch.where(left, places // period, torch.where(right, (places - size) // period + 1, 0))
    shape = [-1 if one == axis else 1 for one in range(low.ndim)]
    # NOWHERE stays NOWHERE; infinity minus infinity is not a step
    return low.index_select(axis, base) + times.view(shape) * step.nan_to_num(0.0, 0.0, 0.0)


def steps(low: Tensor, axis: int) -> tuple[int, Tensor]:
    """Return the period of a map and its increase over a period; 1 and the mean step if it has no period.

    Values at the ends may differ where an operation has clipped its windows.
    """
    size = low.shape[axis]
    for period in (period for period in PERIODS if period < size):
        grown = low.narrow(axis, period, size - period) - low.narrow(axis, 0, size - period)
        first = grown.narrow(axis, 0, 1)
        if (grown.nan_to_num(0.0, 0.0, 0.0) == first.nan_to_num(0.0, 0.0, 0.0)).all():
            return period, first
    grown = low.narrow(axis, size - 1, 1) - low.narrow(axis, 0, 1)
    return 1, grown / max(size - 1, 1)
