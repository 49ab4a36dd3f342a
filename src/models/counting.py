"""Count the parameters and multiply-accumulate operations of a net."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(net: nn.Module, images: Tensor) -> float:
    """Count the multiply-accumulates of a forward pass: convolutions, linear layers and attention."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(images)
    return counter.get_total_flops() / 2
