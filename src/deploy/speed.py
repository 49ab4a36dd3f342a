"""Measure the inference speed of a trained net, in torch's float32 and as exported."""

import copy
import io
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from src.deploy.inference_net import quiet
from src.models.compiling import first_line
from src.models.example_inputs import noise_inputs
from src.predictor import Run, input_shape, load, read_card
from src.speed.benchmark import measure_inference
from src.speed.measure import MEMORY_FORMATS, blocks, inference_step, latencies

log = logging.getLogger(__name__)

BATCH_SIZE, BLOCKS = 32, 5


def compare_speeds(
    net: nn.Module, exported: Mapping[str, Path], input_shape: Sequence[int], seconds: float, compiled: bool
) -> dict[str, dict[str, float]]:
    """Measure a net in float32, in the faster memory format, and exported models, taking turns.

    Args:
        net: it is not changed.
        exported: folders of models that this process has exported, by name; they are trusted.
        input_shape: shape of one input; see `src.models.task.Task`.
        seconds: time to measure each model and metric.
        compiled: torch.compile exported torch models first, if that works.

    Returns:
        The medians `latency_ms` of a single input and `images_per_second` at batch 32, by "fp32" and the given names.
    """
    single, batch = (noise_inputs(size, input_shape).numpy() for size in (1, BATCH_SIZE))
    net = copy.deepcopy(net)
    threads = torch.get_num_threads()
    runs = {name: ready_to_run(folder, compiled, batch, threads, trusted=True) for name, folder in exported.items()}
    steps: dict[str, Any] = {}
    for name, memory_format in MEMORY_FORMATS.items():
        steps[name] = inference_step(copy.deepcopy(net).to(memory_format=memory_format), torch.from_numpy(batch))
    steps |= {name: lambda run=run: run(batch) for name, run in runs.items()}
    times = {name: statistics.median(values) for name, values in blocks(steps, BLOCKS, seconds / BLOCKS).items()}
    fastest = min(MEMORY_FORMATS, key=lambda name: times[name])
    one = inference_step(net.to(memory_format=MEMORY_FORMATS[fastest]), torch.from_numpy(single))
    singles: dict[str, Any] = {"fp32": one} | {name: lambda run=run: run(single) for name, run in runs.items()}
    return {
        name: {
            "latency_ms": 1000 * statistics.median(latencies(step, seconds)),
            "images_per_second": BATCH_SIZE / times[fastest if name == "fp32" else name],
        }
        for name, step in singles.items()
    }


def measure_exported(folder: str, cfg: DictConfig) -> dict[str, Any]:
    """Measure an exported model's inference on noise, for the table of `src/benchmark.py`.

    Returns:
        What `measure_model` returns, as far as it applies to an exported model, and the score from its card.

    Raises:
        ValueError: it is a torch model, and `cfg.trusted` is false; or see `read_card`.
    """
    card = read_card(folder)
    sizes = (1, *cfg.inference_batch_sizes)
    batches = {size: noise_inputs(size, input_shape(card)).numpy() for size in sizes}
    run = ready_to_run(Path(folder), cfg.compiled, batches[1], torch.get_num_threads(), cfg.trusted)
    return {
        "model": folder,
        "threads": torch.get_num_threads(),
        "memory_format": card["format"],
        "precision": card["precision"],
        "compiled": cfg.compiled and card["format"] == "torch",
        "params": card["params"],
        "score": card["score"],
        "score_value": card.get(f"test_{card['score']}"),
        "score_data": f"{card.get('test_images')} test images",
        **measure_inference(lambda size: lambda: run(batches[size]), cfg),
    }


def ready_to_run(folder: Path, compiled: bool, batch: np.ndarray, threads: int, trusted: bool) -> Run:
    """Load an exported model; uncompiled if the compiler fails on it or is missing."""
    if compiled:
        run = load(folder, threads, compiled=True, trusted=trusted).run
        try:
            with quiet():
                run(batch)
        except Exception as error:  # compilers raise exceptions of any type
            log.warning("%s is timed uncompiled, because compilation fails: %s", folder, first_line(error))
        else:
            return run
    return load(folder, threads, trusted=trusted).run


def weights_size(net: nn.Module) -> int:
    """Return the size of a net's saved weights, in bytes."""
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    return file.tell()
