"""Rules for the receptive field: how an operation's output depends on positions of the net's input.

A map holds, for each value of a tensor, the lowest input position along one axis that the value depends on. A rule
turns the maps of an operation's arguments into the map of its output. Highest positions are the lowest of the negated
ones, so that the same rules serve both. Positions from padding lie beyond the image, as is usual.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from src.cards.windows import constant, extended, least, shrunk, spread, tapped

Rule = Callable[[Any, tuple[Any, ...], dict[str, Any], Tensor], Tensor]  # op, maps, keyword arguments, actual output


def convolution(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """A convolution or transposed convolution with any number of axes."""
    low, weight, _, stride, padding, dilation, is_transposed, _, groups = maps
    kernel, sizes = weight.shape[2:], out.shape[2:]
    dense = groups == 1 or low.stride(1) == 0  # (B, 1, *S): all channels are read; else (B, groups, *S)
    low = least(low, 1) if dense else low.unflatten(1, (groups, -1)).amin(2)
    low = spread(low, kernel, stride, padding, dilation, sizes) if is_transposed else tapped(
        low, kernel, stride, padding, dilation, sizes
    )  # fmt: skip
    return low.expand(out.shape) if low.shape[1] == 1 else low.repeat_interleave(out.shape[1] // groups, 1)


def pooling(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """Max or average pooling with any number of axes."""
    axes = int(op._schema.name.partition("pool")[2][0])
    kernel, stride, padding, dilation = (
        per_axis(option(op, name, maps, options) or 0, axes)
        for name in ("kernel_size", "stride", "padding", "dilation")
    )
    stride = stride if any(stride) else kernel
    return tapped(maps[0], kernel, stride, padding, [max(one, 1) for one in dilation], out.shape[-axes:])


def per_axis(value: Any, axes: int) -> list[int]:
    """Return one value for each axis."""
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


def adaptive_pooling(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """Adaptive pooling: window i of n covers from ⌊i · S / n⌋ to ⌈(i + 1) · S / n⌉."""
    low = maps[0]
    axes = int(op._schema.name.partition("pool")[2][0])
    for axis in range(low.ndim - axes, low.ndim):
        if low.stride(axis) == 0:
            low = constant(low, axis, out.shape[axis])
            continue
        size, count = low.shape[axis], out.shape[axis]
        cuts = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        low = torch.cat([low.narrow(axis, a, b - a).amin(axis, keepdim=True) for a, b in cuts], axis)
    return low


TAPS = {"nearest": (0,), "linear": (0, 1), "bilinear": (0, 1), "trilinear": (0, 1), "bicubic": (-1, 0, 1, 2)}


def upsampling(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """Interpolation to a larger grid, from the one to four nearest positions along each axis."""
    low = maps[0]
    mode = op._schema.name.removeprefix("aten::upsample_").rstrip("123d").rstrip("_")
    if mode not in TAPS:
        return everything(op, maps, options, out)
    aligned = mode != "nearest" and bool(maps[2])
    for axis in range(2, low.ndim):
        if low.stride(axis) == 0:
            low = constant(low, axis, out.shape[axis])
            continue
        size, count = low.shape[axis], out.shape[axis]
        places = torch.arange(count, dtype=torch.float64)
        if mode == "nearest":
            places = places * size / count
        elif aligned:
            places = places * (size - 1) / max(count - 1, 1)
        else:
            places = (places + 0.5) * size / count - 0.5
        whole = places.floor().long()
        taps = [tap for tap in TAPS[mode] if tap <= 0 or not torch.equal(places, whole.double())]
        wide = extended(low, axis, 3, 3)
        low = torch.stack([wide.index_select(axis, (whole + tap).clamp(-3, size + 2) + 3) for tap in taps]).amin(0)
    return low


def padding(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """Padding, which continues the map beyond the image, or cropping by negative padding."""
    low, widths = maps[0], maps[1]
    for number in range(len(widths) // 2):
        axis, before, after = low.ndim - 1 - number, widths[2 * number], widths[2 * number + 1]
        if low.stride(axis) == 0:
            low = constant(low, axis, out.shape[axis])
            continue
        low = extended(low, axis, max(before, 0), max(after, 0))
        low = low.narrow(axis, max(-before, 0), out.shape[axis])
    return low


def product(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """A matrix product, possibly with a bias: a value depends on a whole row and a whole column."""
    a, b = maps[-2:] if op._schema.name.endswith(("::mm", "::bmm")) else maps[1:3]
    return lowest([least(a, -1), least(b, -2)], out.shape)


def attention(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """Scaled dot-product attention: each query depends on all keys and values."""
    query, key, value = maps[:3]
    return lowest([least(query, -1), least(key, (-2, -1)), least(value, (-2, -1))], out.shape)


def reduction(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """A sum, mean, maximum, norm, … over some or all axes."""
    low, axes = maps[0], option(op, "dim", maps, options)
    axes = range(low.ndim) if axes is None or axes == [] else [axes] if isinstance(axes, int) else axes
    low = least(low, axes)
    if not option(op, "keepdim", maps, options):
        for axis in sorted((axis % low.ndim for axis in axes), reverse=True):
            low = low.squeeze(axis)
    return low.expand(out.shape)


def along_axis(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """An operation in which each value depends on all values along an axis, such as softmax."""
    return least(maps[0], maps[1]).expand(out.shape)


def running(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """An operation in which each value depends on the preceding ones along an axis, such as a cumulative sum."""
    return maps[0].cummin(maps[1]).values


def layer_norm(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """LayerNorm, over the last axes."""
    return least(maps[0], range(-len(maps[1]), 0)).expand(out.shape)


def group_norm(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """GroupNorm and InstanceNorm, over all positions."""
    return least(maps[0], range(1, maps[0].ndim)).expand(out.shape)


def lookup(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """An embedding of tokens."""
    return maps[1].unsqueeze(-1).expand(out.shape)


def recurrence(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """An LSTM layer on (T, B, D): a step depends on the steps before it, or after it if `reverse`."""
    low, backwards = least(maps[0], -1), bool(maps[7])
    low = low.flip(0).cummin(0).values.flip(0) if backwards else low.cummin(0).values
    return low.expand(out.shape)


def first_argument(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """An operation that changes values but not positions."""
    return maps[0]


def elementwise(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """An elementwise operation with broadcasting."""
    return lowest([one for one in maps if isinstance(one, Tensor)], out.shape)


def lowest(lows: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Return the minimum of maps, broadcast to a shape."""
    low, *others = lows
    for other in others:
        low = torch.minimum(shrunk(low), shrunk(other))
    return low.expand(shape)


def joined(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """A concatenation along an axis."""
    parts, axis = list(maps[0]), option(op, "dim", maps, options) % out.ndim
    for other in range(out.ndim):
        if other != axis and all(one.stride(other) == 0 for one in parts):
            parts = [one.narrow(other, 0, 1) for one in parts]
    shape = list(out.shape)
    shape[axis] = -1
    return torch.cat(parts, axis).expand(shape)


def everything(op: Any, maps: tuple[Any, ...], options: dict[str, Any], out: Tensor) -> Tensor:
    """An operation that may mix all values."""
    tensors = [one for one in (*maps, *options.values()) if isinstance(one, Tensor)]
    tensors += [one for group in maps if isinstance(group, list) for one in group if isinstance(one, Tensor)]
    return torch.stack([one.amin() for one in tensors]).amin().expand(out.shape)


def option(op: Any, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return the argument with a name; None if the operation has no such argument."""
    for place, argument in enumerate(op._schema.arguments):
        if argument.name == name:
            return options.get(name, arguments[place] if place < len(arguments) else argument.default_value)
    return None


RULES: dict[str, Rule] = {
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), convolution),
    **dict.fromkeys(("max_pool1d", "max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d"), pooling),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), pooling),
    **dict.fromkeys(("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d"), adaptive_pooling),
    **{f"upsample_{mode}{axes}d": upsampling for mode in ("nearest", "bilinear", "bicubic", "trilinear", "linear")
       for axes in "123"},
    "constant_pad_nd": padding,
    "cat": joined,
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), product),
    **dict.fromkeys(
        ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"), attention
    ),
    **dict.fromkeys(("sum", "mean", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean"), reduction),
    **dict.fromkeys(("linalg_vector_norm", "logsumexp", "norm"), reduction),
    **dict.fromkeys(("_softmax", "_log_softmax"), along_axis),
    **dict.fromkeys(("cumsum", "cumprod"), running),
    "native_layer_norm": layer_norm,
    "native_group_norm": group_norm,
    "embedding": lookup,
    "mkldnn_rnn_layer": recurrence,
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training", "_to_copy"), first_argument),
    **dict.fromkeys(("hardswish_", "mish_", "_prelu_kernel"), elementwise),
}  # fmt: skip
# operations that only move values; they are applied to the maps themselves
MOVES = {
    "cat",
    "stack",
    "unsafe_split",
    "transpose_",
    "squeeze_",
    "unsqueeze_",
    "t_",
    "gather",
    "index_select",
    "index",
    "flip",
    "roll",
    "clone",
    "contiguous",
    "repeat",
}
MOVES |= {"pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"}
RESHAPES = {"view", "_unsafe_view", "_reshape_alias", "as_strided_"}  # the last for pooled maps in a new memory layout
MOVES |= RESHAPES | {"split", "split_with_sizes", "unbind", "chunk"}
