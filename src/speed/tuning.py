"""Search for the fastest settings: candidates are timed in turn, and slow ones are dropped early."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROUNDS = 6
KEEP_ABOVE = (0.7, 0.85, 0.93, 0.97)  # share of the best speed that a candidate needs to stay, after each round
MIN_GAIN = 1.03  # a smaller gain is noise, and the default stays


@dataclass(frozen=True)
class Settings:
    """CPU settings of a training run."""

    threads: int
    memory_format: str
    precision: str
    compiled: bool = False

    def __str__(self) -> str:
        compiled = ", compiled" if self.compiled else ""
        return f"{self.threads} threads, {self.memory_format}, {self.precision}{compiled}"


def powers_of_two(limit: int) -> list[int]:
    """Return 1, 2, 4, … up to a limit, and the limit itself."""
    return sorted({2**power for power in range(limit.bit_length())} | {limit})


def compare(
    candidates: Sequence[Settings], speed: Callable[[Settings], float], deadline: float
) -> dict[Settings, list[float]]:
    """Measure candidates in rounds, so that changes of the machine's speed affect all; return their speeds.

    Slow candidates are dropped early, but never the first, which is the default. After the deadline nothing is measured
    except the default's first speed.
    """
    speeds: dict[Settings, list[float]] = {settings: [] for settings in candidates}
    alive = list(candidates)
    for number in range(ROUNDS):
        for settings in alive:
            if time.perf_counter() < deadline or not speeds[candidates[0]]:
                speeds[settings].append(speed(settings))
        medians = {settings: statistics.median(speeds[settings]) for settings in alive if speeds[settings]}
        threshold = max(medians.values()) * KEEP_ABOVE[min(number, len(KEEP_ABOVE) - 1)]
        alive = [candidates[0], *(one for one in alive[1:] if one in medians and medians[one] >= threshold)]
        if len(alive) == 1:
            break
    return speeds


def choose(speeds: dict[Settings, list[float]], default: Settings) -> Settings:
    """Return the fastest candidate by its median, or the default if the gain over it is only noise."""
    best = max((one for one in speeds if speeds[one]), key=lambda settings: statistics.median(speeds[settings]))
    return best if paired_gain(speeds, best, default) >= MIN_GAIN else default


def paired_gain(speeds: dict[Settings, list[float]], settings: Settings, default: Settings) -> float:
    """Return the median over rounds of the ratio of two candidates' speeds."""
    return statistics.median(speed / base for speed, base in zip(speeds[settings], speeds[default], strict=False))
