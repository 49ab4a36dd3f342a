"""The measurements of `src/benchmark.py`: speed, latency, memory and size of a model."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from omegaconf import DictConfig

from src.models.counting import count_macs, count_parameters
from src.models.task import Batch, Task
from src.speed import measure
from src.speed.measure import MEMORY_FORMATS, Context, Step, blocks
from src.system.cpu import check_threads, thread_share, warn_if_emulated

BLOCKS = 7


def measure_model(model: Task, cfg: DictConfig) -> dict[str, Any]:
    """Measure a task's train step and its net's forward pass on noise.

    Returns:
        The settings; `params` (trainable) and `macs` of an image; `train_images_per_second` with its `train_spread`
        (half the interquartile range, relative), `train_peak_memory_mb` of the process, `train_share_of_peak` (of the
        rate of float32 matrix products on this machine; a train step counts as three forward passes);
        `inference_images_per_second` for each batch size; `latency_ms_p50` and `latency_ms_p95` of a single image;
        `batch_sizes`, see `measure_batch_sizes`.

    Raises:
        ValueError: invalid settings.
    """
    measure.check_choice("memory_format", cfg.memory_format, tuple(MEMORY_FORMATS))
    context = measure.autocast(cfg.precision)
    if cfg.precision == "bf16-mixed":
        warn_if_emulated()
    if not all(type(size) is int and size > 0 for size in cfg.batch_sizes):
        raise ValueError(f"batch_sizes={list(cfg.batch_sizes)} must be numbers of images, such as [16,32,64].")
    sizes = {1, cfg.train_batch_size, *cfg.inference_batch_sizes, *cfg.batch_sizes}
    batches = {size: model.example_batch(size) for size in sizes}  # before the net is compiled
    if cfg.model.compile:
        model.net.compile()
    return {
        "threads": torch.get_num_threads(),
        "memory_format": cfg.memory_format,
        "precision": cfg.precision,
        "compiled": bool(cfg.model.compile),
        **measure_training(model, batches, cfg, context),
        **measure_inference(lambda size: measure.inference_step(model.net, batches[size][0], context), cfg),
        "batch_sizes": measure_batch_sizes(model, batches, cfg, context),
    }


@contextmanager
def threads_of(cfg: DictConfig) -> Iterator[None]:
    """Set the number of threads for the duration of the context; "auto" is the physical cores this process may use.

    Raises:
        ValueError: more threads than this process has CPUs.
    """
    check_threads("threads", cfg.threads, ("auto",))
    before = torch.get_num_threads()
    torch.set_num_threads(thread_share() if cfg.threads == "auto" else cfg.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_training(model: Task, batches: Mapping[int, Batch], cfg: DictConfig, context: Context) -> dict[str, Any]:
    """Measure speed and memory of the train step; the keys of `batches` are their sizes."""
    model.net.to(memory_format=MEMORY_FORMATS[cfg.memory_format])
    macs = count_macs(model.net, batches[1][0])
    step = measure.train_step(model, batches[cfg.train_batch_size], context)
    with measure.peak_memory() as peak:
        step()
        times = blocks({"train": step}, BLOCKS, cfg.seconds / BLOCKS)["train"]
    speed = cfg.train_batch_size / statistics.median(times)
    return {
        "params": count_parameters(model),
        "macs": macs,
        "train_batch_size": cfg.train_batch_size,
        "train_images_per_second": speed,
        "train_spread": measure.spread(times),
        "train_peak_memory_mb": peak[0] / 1e6,
        "train_share_of_peak": 3 * 2 * macs * speed / measure.matmul_peak(),
    }


def measure_batch_sizes(
    model: Task, batches: Mapping[int, Batch], cfg: DictConfig, context: Context
) -> list[dict[str, Any]]:
    """Measure the train step with each of `cfg.batch_sizes`, in turn, so that changes in machine speed affect all.

    Returns:
        For each size: `batch_size`, `images_per_second`, `share_of_best` (the median of its ratio to the fastest in
        each turn) and `peak_memory_mb` of the process.
    """
    sizes = sorted(set(cfg.batch_sizes))
    peaks = {}
    for size in sizes:
        with measure.peak_memory() as peak:
            measure.train_step(model, batches[size], context)()
        peaks[size] = peak[0]
    steps = {str(size): measure.train_step(model, batches[size], context) for size in sizes}
    times = blocks(steps, BLOCKS, cfg.seconds / BLOCKS) if steps else {}
    speeds = {size: [size / seconds for seconds in times[str(size)]] for size in sizes}
    best = max(speeds.values(), key=statistics.median, default=[])
    return [
        {
            "batch_size": size,
            "images_per_second": statistics.median(own),
            "share_of_best": statistics.median(one / other for one, other in zip(own, best, strict=True)),
            "peak_memory_mb": peaks[size] / 1e6,
        }
        for size, own in speeds.items()
    ]


def measure_inference(make_step: Callable[[int], Step], cfg: DictConfig) -> dict[str, Any]:
    """Measure throughput in batches and the latency of a single image; `make_step` takes the batch size."""
    speeds = {}
    for size in cfg.inference_batch_sizes:
        times = blocks({"inference": make_step(size)}, BLOCKS, cfg.seconds / BLOCKS)["inference"]
        speeds[str(size)] = size / statistics.median(times)
    single = sorted(measure.latencies(make_step(1), cfg.seconds))
    return {
        "inference_images_per_second": speeds,
        "latency_ms_p50": 1000 * statistics.median(single),
        "latency_ms_p95": 1000 * single[int(0.95 * (len(single) - 1))],
    }
