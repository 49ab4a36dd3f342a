"""The figures of `src/benchmark.py`: speed, latency, memory and size of a model."""

import statistics
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from src.utils.cpu import check_threads, thread_share, warn_if_emulated
from src.utils.measure import (
    MEMORY_FORMATS,
    autocast,
    blocks,
    count_macs,
    inference_step,
    latencies,
    matmul_peak,
    peak_memory,
    spread,
    train_step,
)

BLOCKS = 7


def measure_model(model: Any, cfg: DictConfig) -> dict[str, Any]:
    """Measure a task's train step and its net's forward pass on noise.

    Returns:
        The settings; `params` (trainable) and `macs` of an image; `train_images_per_second` with its `train_spread`
        (half the distance of the quartiles, relative), `train_peak_memory_mb` of the process, `train_share_of_peak` (of
        the rate at which the machine multiplies float32 matrices; a train step counts as three forward passes);
        `inference_images_per_second` for each batch size; `latency_ms_p50` and `latency_ms_p95` of a single image.

    Raises:
        ValueError: settings that are not to be had here.
    """
    check_threads("threads", cfg.threads, ("auto",))
    if cfg.memory_format not in MEMORY_FORMATS:
        raise ValueError(f"memory_format={cfg.memory_format} must be one of {', '.join(MEMORY_FORMATS)}.")
    context = autocast(cfg.precision)
    if cfg.precision == "bf16-mixed":
        warn_if_emulated()
    if cfg.model.compile:
        model.net.compile()
    before = torch.get_num_threads()
    torch.set_num_threads(thread_share() if cfg.threads == "auto" else cfg.threads)
    try:
        return {
            "threads": torch.get_num_threads(),
            "memory_format": cfg.memory_format,
            "precision": cfg.precision,
            "compiled": bool(cfg.model.compile),
            **train_figures(model, cfg, context),
            **inference_figures(model, cfg, context),
        }
    finally:
        torch.set_num_threads(before)


def train_figures(model: Any, cfg: DictConfig, context: Any) -> dict[str, Any]:
    """Speed and memory of the train step."""
    model.net.to(memory_format=MEMORY_FORMATS[cfg.memory_format])
    macs = count_macs(model.net, noise(cfg, 1)[0])
    step = train_step(model, noise(cfg, cfg.train_batch_size), context)
    with peak_memory() as peak:
        step()
        times = blocks({"train": step}, BLOCKS, cfg.seconds / BLOCKS)["train"]
    speed = cfg.train_batch_size / statistics.median(times)
    return {
        "params": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "macs": macs,
        "train_batch_size": cfg.train_batch_size,
        "train_images_per_second": speed,
        "train_spread": spread(times),
        "train_peak_memory_mb": peak[0] / 1e6,
        "train_share_of_peak": 3 * 2 * macs * speed / matmul_peak(),
    }


def inference_figures(model: Any, cfg: DictConfig, context: Any) -> dict[str, Any]:
    """Speed of the forward pass in batches, and latency of a single image."""
    speeds = {}
    for size in cfg.inference_batch_sizes:
        step = inference_step(model.net, noise(cfg, size)[0], context)
        times = blocks({"inference": step}, BLOCKS, cfg.seconds / BLOCKS)["inference"]
        speeds[str(size)] = size / statistics.median(times)
    single = sorted(latencies(inference_step(model.net, noise(cfg, 1)[0], context), cfg.seconds))
    return {
        "inference_images_per_second": speeds,
        "latency_ms_p50": 1000 * statistics.median(single),
        "latency_ms_p95": 1000 * single[int(0.95 * (len(single) - 1))],
    }


def noise(cfg: DictConfig, batch_size: int) -> tuple[Tensor, Tensor]:
    """A batch of the data's shape: images (B, C, H, W) and labels (B,), or (B, heads) where there are several."""
    images = torch.randn(batch_size, cfg.data.channels, cfg.data.image_size, cfg.data.image_size)
    num_classes = cfg.data.num_classes
    if isinstance(num_classes, Mapping):
        return images, torch.stack([torch.randint(count, (batch_size,)) for count in num_classes.values()], dim=1)
    return images, torch.randint(num_classes, (batch_size,))
