"""The size of a net: its parameters, and what it computes for an image."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """How many parameters are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(net: nn.Module, images: Tensor) -> float:
    """Multiply-accumulate operations of a forward pass: of convolutions, dense layers and attention."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(images)
    return counter.get_total_flops() / 2
