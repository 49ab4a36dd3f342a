"""Example inputs of the shape and dtype that a net takes: to trace it, to count its operations, to time it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def are_tokens(input_shape: Sequence[int]) -> bool:
    """Return whether inputs of a shape are tokens (T,), int64; images (C, H, W) and series (T, F) are float32."""
    return len(input_shape) == 1


def example_inputs(batch_size: int, input_shape: Sequence[int]) -> Tensor:
    """Make inputs (B, *input_shape): zeros, or token 1 throughout, since 0 is padding."""
    if are_tokens(input_shape):
        return torch.ones(batch_size, *input_shape, dtype=torch.int64)
    return torch.zeros(batch_size, *input_shape)


def noise_inputs(batch_size: int, input_shape: Sequence[int]) -> Tensor:
    """Draw inputs (B, *input_shape) from a standard normal distribution; tokens are as in `example_inputs`."""
    return example_inputs(batch_size, input_shape) if are_tokens(input_shape) else torch.randn(batch_size, *input_shape)


def padded_to(input_shape: Sequence[int], inputs: Tensor) -> Tensor:
    """Pad tokens (B, T) to the length that an exported net takes; images and series are returned unchanged."""
    return F.pad(inputs, (0, input_shape[0] - inputs.shape[1])) if are_tokens(input_shape) else inputs


def moved_to(net: nn.Module, inputs: Tensor) -> Tensor:
    """Move inputs to the device of a net's weights, and convert numbers, but not tokens, to their dtype."""
    parameter = next(net.parameters(), inputs)
    return inputs.to(parameter) if inputs.is_floating_point() else inputs.to(parameter.device)
