"""The cost of a net on a user's data: counted and measured at its own input size, estimated at others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.advice.request import Request

MEASURED, ESTIMATED, UNKNOWN = "measured", "estimated", "not measured"
FORWARDS = 3  # a train step takes about as long as three forward passes
LARGE = 40_000  # values of an input, such as 3×128×128, from which batches of 16 are timed instead of 128
SHORT_RUN = (
    4,
    55_000,
)  # epochs and images of most measured runs; of a net without a score, training is assumed as long
# layers are coarser if MACs grow by less than this share of the growth in pixels; with equal layers they grow as much
COARSER = 0.5
MANY_EPOCHS = 30  # with fewer images than the measured run, suggest at most so many, or as many as it had


@dataclass(frozen=True)
class Cost:
    """A net's size and speed on a user's data; None if not measured."""

    shape: tuple[int, ...]
    params: float
    macs: float
    train_images_per_second: float | None
    latency_ms: float | None
    latency_from: str  # MEASURED, ESTIMATED or UNKNOWN
    epochs: int | None
    minutes: float | None  # for that many epochs
    scaled: bool  # estimated from the net's own image size
    coarser: bool  # whether the net's stem takes larger strides than at its own image size

    def of(self, limit: str) -> float | None:
        """Return the cost that a limit such as max_params applies to."""
        value: float | None = getattr(self, limit.removeprefix("max_"))
        return value


def cost_of(facts: Mapping[str, Any], request: Request, run: tuple[int, int] = SHORT_RUN) -> Cost | None:
    """Estimate what a net costs on the requested data; None if it takes no images of that size.

    Args:
        facts: of the net, from `read_models`.
        request: names the data.
        run: epochs and images of the run that gave the net's score; training is estimated for as many steps.
    """
    shape, params, macs = tuple(facts["shape"]), float(facts["params"]), float(facts["macs"])
    requested = shape
    if request.kind.of_images and (request.size or request.channels):
        size = request.size or shape[1]
        requested = (request.channels or shape[0], size, size)
    factor = 1.0
    if requested != shape:
        own_counts, counts = counts_at(facts, *shape[:2]), counts_at(facts, *requested[:2])
        if own_counts is None or counts is None:
            return None
        params, factor = counts[0], counts[1] / own_counts[1]  # a ratio of counts of the same kind
    pixels = math.prod(requested[1:]) / math.prod(shape[1:])
    coarser = pixels > 1 and factor < COARSER * pixels
    slowdown = max(factor, 1.0) if coarser else factor  # with coarser layers, fewer MACs need not take less time
    speed, latency, latency_from = facts.get("train_images_per_second"), facts.get("latency_ms"), MEASURED
    if latency is None and speed is not None:
        latency, latency_from = 1000 / (FORWARDS * speed), ESTIMATED
    elif latency is None:
        latency_from = UNKNOWN
    speed = speed and speed / slowdown
    epochs = epochs_for(request.images, run) if request.images and request.kind.of_images else None
    minutes = epochs * request.images / speed / 60 if epochs and request.images and speed else None
    latency = latency and latency * slowdown
    return Cost(requested, params, macs * factor, speed, latency, latency_from, epochs, minutes, factor != 1, coarser)


def counts_at(facts: Mapping[str, Any], channels: int, size: int) -> tuple[float, float] | None:
    """Return parameters and MACs at an image size, interpolated or extrapolated from the counted sizes.

    Both are linear in the number of pixels: the MACs of convolutions, and both for dense layers.
    """
    if size % facts["multiple_of"]:
        return None
    counted = sorted((int(key.partition("x")[2]), counts) for key, counts in facts["counts"].items())
    points = [(at**2, counts) for at, counts in counted if facts["counts"].get(f"{channels}x{at}") is counts]
    exact = next((counts for pixels, counts in points if pixels == size**2), None)
    if exact is not None or len(points) < 2:
        return (exact[0], exact[1]) if exact else None
    right = next((number for number, (pixels, _) in enumerate(points) if pixels > size**2), len(points) - 1)
    (low, before), (high, after) = points[max(right, 1) - 1], points[max(right, 1)]
    params, macs = (line((low, before[i]), (high, after[i]), size**2) for i in (0, 1))
    return params, max(macs, 1.0)


def line(left: tuple[float, float], right: tuple[float, float], x: float) -> float:
    """Return the value at x of the line through two points."""
    return left[1] + (right[1] - left[1]) * (x - left[0]) / (right[0] - left[0])


def epochs_for(images: int, run: tuple[int, int] = SHORT_RUN) -> int:
    """Return the number of epochs that takes as many steps as a run of so many epochs and images.

    With fewer images it is not less than that run's own, with more images not less than a few.
    """
    epochs, samples = run
    lowest, highest = (epochs, max(epochs, MANY_EPOCHS)) if images < samples else (min(epochs, SHORT_RUN[0]), epochs)
    return max(lowest, min(highest, round(epochs * samples / images)))


def batch_size(shape: Sequence[int]) -> int:
    """Return the batch size with which benchmarks/models.py times training."""
    return 16 if math.prod(shape) > LARGE else 128
