"""Channels that never fire, and the filters of the first layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from src.explanation.section import Gallery, Section, Table, gallery
from src.explanation.subject import Samples, Subject

SAMPLES = 2000  # a channel is dead if it fires on none of these
ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.ReLU6, nn.Hardswish, nn.Mish)
CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d)  # nn.Linear: last
SHOWN = 64  # filters


@contextmanager
def highest_values(net: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the maximum (channels,) of each activation module, by name, within the context."""
    highest: dict[str, Tensor] = {}
    channels_first = [True]  # layout of the last layer with weights

    def follow(module: nn.Module, inputs: Any, output: Any = None) -> None:
        channels_first[0] = not isinstance(module, nn.Linear)

    def keep(name: str, output: Tensor) -> None:
        dim = 1 if channels_first[0] and output.ndim > 2 else output.ndim - 1
        values = output.detach().transpose(0, dim).flatten(1).amax(dim=1)  # (channels,)
        highest[name] = torch.maximum(highest[name], values) if name in highest else values

    hooks: list[Any] = [net.register_forward_pre_hook(follow)]
    for name, module in net.named_modules():
        if isinstance(module, ACTIVATIONS):
            hooks.append(module.register_forward_hook(lambda _, __, output, name=name: keep(name, output)))
        elif isinstance(module, (*CHANNELS_FIRST, nn.Linear)):
            hooks.append(module.register_forward_hook(follow))
    try:
        yield highest
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def dead_units(subject: Subject, samples: Samples) -> dict[str, tuple[int, int]]:
    """Return, for each activation, the number of channels that are never above 0, and the number of all channels."""
    with highest_values(subject.task.net) as highest:
        for batch in samples:
            subject.forward(batch)
    return {name: (int((values <= 0).sum()), len(values)) for name, values in highest.items()}


def first_filters(net: nn.Module, input_shape: tuple[int, ...]) -> tuple[str, Tensor] | None:
    """Return the name and weights (filters, C, h, w) of the first layer on images (C, H, W); None if it has no filters.

    It is a convolution with a kernel of more than one pixel, or a linear layer on all pixels.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == input_shape[0] and max(module.kernel_size) > 1:
            return name, module.weight.detach()
        if isinstance(module, nn.Linear) and module.in_features == torch.Size(input_shape).numel():
            return name, module.weight.detach().unflatten(1, input_shape)
    return None


def units_section(subject: Subject) -> Section:
    """Count dead channels on the test samples, and show the first layer's filters."""
    samples = subject.splits["test"].first(SAMPLES)
    counts = dead_units(subject, samples)
    dead, total = (sum(pair[place] for pair in counts.values()) for place in (0, 1))
    note = f"A channel is dead if it is never above 0, at any position of {samples.described} test samples. "
    note += f"{dead:,} of {total:,} channels are." if counts else "The net has no activations as modules."
    parts: list[Table | Gallery] = []
    if silent := [[name, f"{silent:,}", f"{channels:,}"] for name, (silent, channels) in counts.items() if silent]:
        parts.append(Table("Activations with dead channels", ["activation", "dead", "channels"], silent))
    shape = tuple(subject.task.example_input_array.shape[1:])  # type: ignore[union-attr]  # a tensor
    if filters := first_filters(subject.task.net, shape) if subject.takes_images else None:
        name, weights = filters
        shown = weights_as_pictures(weights[:SHOWN])
        described = f"{name}: {len(shown)} of {len(weights)}."
        parts.append(gallery("Filters of the first layer", shown, [""] * len(shown), described))
    else:
        note += " The filters of its first layer cannot be shown as pictures."
    layers = {name: {"dead": count, "channels": channels} for name, (count, channels) in counts.items()}
    return Section("Units", note, {"dead": dead, "channels": total, "layers": layers, "samples": len(samples)}, parts)


def weights_as_pictures(weights: Tensor) -> Tensor:
    """Scale each filter (N, C, h, w) to [0, 1]; if there are not 1 or 3 channels, their mean is shown."""
    weights = weights if weights.shape[1] in (1, 3) else weights.mean(dim=1, keepdim=True)
    low, high = weights.amin(dim=(1, 2, 3), keepdim=True), weights.amax(dim=(1, 2, 3), keepdim=True)
    return (weights - low) / (high - low).clamp(min=1e-12)
