"""What a net costs on a user's data: counted and measured at its own size, estimated at others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.advice.wish import Wish

MEASURED, ESTIMATED, UNKNOWN = "measured", "estimated", "not measured"
FORWARDS = 3  # a train step takes about as long as three forward passes
LARGE = 40_000  # values of an input, such as 3×128×128, of which batches of 16 are timed instead of 128
# the measured runs made 1,700 steps: 4 epochs of the 55,000 images of Fashion-MNIST, in batches of 128
SAMPLES = 4 * 55_000
COARSER = 0.5  # of the pixels' ratio: of nets with the same layers at all sizes, MACs grow with the pixels
EPOCHS = (4, 30)  # no fewer, no more


@dataclass(frozen=True)
class Cost:
    """A net's size and speed on a user's data; None: not measured."""

    shape: tuple[int, ...]
    params: float
    macs: float
    train_images_per_second: float | None
    latency_ms: float | None
    latency_from: str  # how the latency is known
    epochs: int | None
    minutes: float | None  # of that many epochs
    scaled: bool  # from the net's own size of images to another
    coarser: bool  # than at its own size: a net whose stem takes larger strides of larger images

    def of(self, limit: str) -> float | None:
        """Return what a limit such as max_params limits."""
        value: float | None = getattr(self, limit.removeprefix("max_"))
        return value


def cost_of(facts: Mapping[str, Any], wish: Wish) -> Cost | None:
    """Estimate what a net costs on the wished data; None if it takes no images of that size."""
    shape, params, macs = tuple(facts["shape"]), float(facts["params"]), float(facts["macs"])
    wished = shape
    if wish.kind.of_images and (wish.size or wish.channels):
        size = wish.size or shape[1]
        wished = (wish.channels or shape[0], size, size)
    factor = 1.0
    if wished != shape:
        here, there = counts_at(facts, *shape[:2]), counts_at(facts, *wished[:2])
        if here is None or there is None:
            return None
        params, factor = there[0], there[1] / here[1]  # of counts of the same kind
    pixels = math.prod(wished[1:]) / math.prod(shape[1:])
    coarser = pixels > 1 and factor < COARSER * pixels
    slower = max(factor, 1.0) if coarser else factor  # other layers: fewer MACs need not take less time
    speed, latency, known = facts.get("train_images_per_second"), facts.get("latency_ms"), MEASURED
    if latency is None and speed is not None:
        latency, known = 1000 / (FORWARDS * speed), ESTIMATED
    elif latency is None:
        known = UNKNOWN
    speed = speed and speed / slower
    epochs = epochs_for(wish.images) if wish.images and wish.kind.of_images else None
    minutes = epochs * wish.images / speed / 60 if epochs and wish.images and speed else None
    latency = latency and latency * slower
    return Cost(wished, params, macs * factor, speed, latency, known, epochs, minutes, factor != 1, coarser)


def counts_at(facts: Mapping[str, Any], channels: int, size: int) -> tuple[float, float] | None:
    """Return parameters and MACs at a size of images, which lies between two that were counted or beyond them.

    Both are lines in the number of pixels: of convolutions the MACs, of dense layers both.
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


def epochs_for(images: int) -> int:
    """Return the epochs that make as many steps as the measured runs."""
    return max(EPOCHS[0], min(EPOCHS[1], round(SAMPLES / images)))


def batch_size(shape: Sequence[int]) -> int:
    """Return the batch size that benchmarks/models.py times training with."""
    return 16 if math.prod(shape) > LARGE else 128
