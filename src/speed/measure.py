"""Measure speed and memory, for tuning, `src/benchmark.py` and the benchmarks."""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.run.used_weights import SwitchesWeights

Step = Callable[[], Any]
Context = Callable[[], AbstractContextManager[Any]]
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PRECISIONS = ("32-true", "bf16-mixed")  # Lightning's names


def check_choice(name: str, value: str | None, choices: Sequence[str | None]) -> None:
    """Raise ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value} must be one of {', '.join(str(choice or 'null') for choice in choices)}.")


def train_step(model: Any, batch: Any, context: Context = nullcontext) -> Step:
    """Return a train step that repeats one batch, an item of the model's loader; see `train_steps`."""
    return train_steps(model, lambda: batch, context)


def train_steps(model: Any, next_batch: Callable[[], Any], context: Context = nullcontext) -> Step:
    """Return a train step: forward, loss, metrics, backward, optimizer.

    The learning rate is almost zero: a net that has memorised a batch has denormal gradients, which are slow on a CPU.

    Args:
        model: a task, such as `src.models.classifier.Classifier`; its weights and metrics change.
        next_batch: returns an item of its loader.
        context: context manager for the forward pass, such as torch.autocast.
    """
    optimizer = model.make_optimizer()
    if isinstance(optimizer, SwitchesWeights):
        optimizer.train()
    for group in optimizer.param_groups:
        group["lr"] = 1e-8
    model.train()

    def step() -> None:
        with context():
            loss, _ = model.step(next_batch(), model.train_metrics)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def inference_step(net: nn.Module, images: Tensor, context: Context = nullcontext) -> Step:
    """Return a forward pass without gradients."""
    net.eval()

    def step() -> None:
        with torch.inference_mode(), context():
            net(images)

    return step


def autocast(precision: str) -> Context:
    """Return the context for a forward pass in one of `PRECISIONS`; raise ValueError for others."""
    check_choice("precision", precision, PRECISIONS)
    return partial(torch.autocast, "cpu", torch.bfloat16, enabled=precision == "bf16-mixed")


def seconds_per_step(step: Step, seconds: float) -> float:
    """Return the mean time of a step, over at least `seconds` and at least one step."""
    start, steps = time.perf_counter(), 0
    while True:
        step()
        steps += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / steps


def blocks(steps: dict[str, Step], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Time the steps in turn for several rounds, so that changes of the machine's speed affect all.

    Returns:
        For each step, the seconds per step of each round.
    """
    for step in steps.values():
        step()  # warms up
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds_per_step(step, seconds))
    return times


def latencies(step: Step, seconds: float) -> list[float]:
    """Return the seconds of single steps, timed for about `seconds`, at least 5 of them."""
    step()
    samples: list[float] = []
    while len(samples) < 5 or sum(samples) < seconds:
        start = time.perf_counter()
        step()
        samples.append(time.perf_counter() - start)
    return samples


def matmul_peak(seconds: float = 0.5, size: int = 1024) -> float:
    """Measure the highest rate of float32 matrix products with the current threads, in operations per second."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(latencies(lambda: a @ b, seconds))


def spread(values: list[float]) -> float:
    """Return half the interquartile range relative to the median; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / statistics.median(values)


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yield a list that receives the process's peak memory within the context, in bytes, at its end.

    Only Linux can reset the peak; elsewhere it is the peak since the start of the process.
    """
    peak: list[float] = []
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (man 5 proc)
    yield peak
    status = Path("/proc/self/status")
    if status.is_file():
        peak.append(next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) * 1024)
    else:
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
