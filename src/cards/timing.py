"""Measure the time of a forward pass on this machine, and its share for each layer."""

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.cards.walk import Place, Walk, evaluating
from src.deploy.speed import ready_to_run
from src.models.example_inputs import noise_inputs
from src.predictor import input_shape
from src.speed.measure import autocast, inference_step, latencies
from src.system.cpu import has_native_bf16

PASSES = 3  # minimum


def shares(net: nn.Module, inputs: Tensor, seconds: float) -> dict[Place, float]:
    """Measure the share of a forward pass spent at each place, with hooks, for about `seconds`.

    Time spent outside of layers, in modules that only call others, is part of the total.
    """
    spent: dict[Place, float] = defaultdict(float)
    last = 0.0  # when the current place was entered

    def moved() -> None:
        nonlocal last
        now = time.perf_counter()
        spent[walk.place] += now - last
        last = time.perf_counter()  # excludes the time of this function

    walk, passes = Walk(net, moved=moved), 0
    with evaluating(net), torch.inference_mode(), walk:
        net(inputs)  # warms up
        spent.clear()
        while passes < PASSES or sum(spent.values()) < seconds:
            last = time.perf_counter()
            net(inputs)
            passes += 1
    total = sum(spent.values())
    return {place: part / total for place, part in spent.items()}


def latency(net: nn.Module, inputs: Tensor, precision: str, seconds: float) -> float:
    """Measure the median time of a forward pass in milliseconds, in one of Lightning's precisions."""
    with evaluating(net):
        return 1000 * statistics.median(latencies(inference_step(net, inputs, autocast(precision)), seconds))


def int8_latency(folder: Path, card: Mapping[str, Any], seconds: float) -> float | None:
    """Measure the latency of an exported int8 model in milliseconds; None for a torch model, which contains code."""
    if card["format"] == "torch":
        return None
    batch = noise_inputs(1, input_shape(card)).numpy()
    run: Any = ready_to_run(folder, False, batch, torch.get_num_threads(), trusted=False)
    return 1000 * statistics.median(latencies(lambda: run(batch), seconds))


def bf16_note() -> str:
    """Return a note if this CPU only emulates bfloat16."""
    return "" if has_native_bf16() else "this CPU has no bfloat16 instructions, and emulates them"
