"""Check whether torch.compile works for a net on this machine."""

import copy
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn


def why_not_compilable(net: nn.Module, *inputs: Any, device: torch.device) -> str | None:
    """Return the error of compiling a copy of a net on a device, forward and backward; None if that works."""
    with isolate_rng():
        copied = copy.deepcopy(net).to(device)
        inputs = tuple(one.to(device) for one in inputs)
        try:
            copied(*inputs)
        except Exception:  # a net that fails uncompiled says nothing about compiling
            return None
        copied.compile()
        try:
            outputs = copied.train()(*inputs)
            sum(output.sum() for output in (outputs.values() if isinstance(outputs, dict) else [outputs])).backward()
        except Exception as error:  # compilers raise errors of any kind
            return first_line(error)
    return None


def first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
