"""Check whether torch.compile works for a net on this machine."""

import copy
from typing import Any

from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn


def why_not_compilable(net: nn.Module, *inputs: Any) -> str | None:
    """Say what goes wrong when a copy of a net is compiled and run forward and backward; None if nothing does."""
    with isolate_rng():
        copied = copy.deepcopy(net)
        try:
            copied(*inputs)
        except Exception:  # what cannot be run like this at all says nothing of compiling
            return None
        copied.compile()
        try:
            outputs = copied.train()(*inputs)
            sum(output.sum() for output in (outputs.values() if isinstance(outputs, dict) else [outputs])).backward()
        except Exception as error:  # whatever a compiler may raise
            return first_line(error)
    return None


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
