"""Count the parameters and multiply-accumulate operations of a net."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula, sdpa_flop_count


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(net: nn.Module, inputs: Tensor) -> float:
    """Count the multiply-accumulates of a forward pass: convolutions, linear and recurrent layers and attention."""
    training = net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(inputs)
    net.train(training)
    return counter.get_total_flops() / 2


# registered for the whole process, as nothing else here is, because Lightning's summary takes no formulas of its own
@register_flop_formula(torch.ops.aten.mkldnn_rnn_layer)
def lstm_flops(x: Any, input_weight: Any, hidden_weight: Any, *others: Any, **options: Any) -> int:
    """Count the operations of torch's LSTM kernel for CPUs, which torch's counter leaves out.

    Args:
        x: the shape (T, B, D).
        input_weight: the shape (4 · hidden_size, D).
        hidden_weight: the shape (4 · hidden_size, hidden_size).
        others: the shapes of biases and states, and settings.
        options: the shapes of the results.
    """
    steps, batch, _ = x
    return 2 * steps * batch * (math.prod(input_weight) + math.prod(hidden_weight))


@register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu)
def attention_flops(query: Any, key: Any, value: Any, *others: Any, **options: Any) -> int:
    """Count the operations of torch's attention kernel for CPUs, which torch's counter leaves out, too.

    Args:
        query: the shape (B, heads, T, D).
        key: the shape (B, heads, S, D).
        value: the shape (B, heads, S, D).
        others: settings.
        options: settings, and the shapes of the results.
    """
    return sdpa_flop_count(query, key, value)
