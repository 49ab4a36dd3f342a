"""The search for the fastest settings: candidates are timed in turn, and the slow ones leave early."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROUNDS = 6
KEPT = (0.7, 0.85, 0.93, 0.97)  # after a round, those at least so fast beside the fastest go on
LEAST_GAIN = 1.03  # less than this is noise, and the default stays


@dataclass(frozen=True)
class Settings:
    """What a training can be run with."""

    threads: int
    memory_format: str
    precision: str
    compiled: bool = False

    def __str__(self) -> str:
        compiled = ", compiled" if self.compiled else ""
        return f"{self.threads} threads, {self.memory_format}, {self.precision}{compiled}"


def powers_of_two(limit: int) -> list[int]:
    """1, 2, 4, … as far as `limit`, and the limit itself."""
    return sorted({2**power for power in range(limit.bit_length()) if 2**power <= limit} | {limit})


def compare(
    candidates: Sequence[Settings], speed: Callable[[Settings], float], deadline: float
) -> dict[Settings, list[float]]:
    """Speeds of the candidates in several rounds; the slow ones leave early, the first, which is the default, never.

    In rounds, so that a change of the machine's speed meets all of them. After the deadline nothing more is measured,
    but for the default's first speed.
    """
    speeds: dict[Settings, list[float]] = {settings: [] for settings in candidates}
    alive = list(candidates)
    for number in range(ROUNDS):
        for settings in alive:
            if time.perf_counter() < deadline or not speeds[candidates[0]]:
                speeds[settings].append(speed(settings))
        fastest = max(statistics.median(speeds[settings]) for settings in alive if speeds[settings])
        least = fastest * KEPT[min(number, len(KEPT) - 1)]
        alive = [
            settings
            for settings in alive
            if settings is candidates[0] or (speeds[settings] and statistics.median(speeds[settings]) >= least)
        ]
        if len(alive) == 1:
            break
    return speeds


def choose(speeds: dict[Settings, list[float]], default: Settings) -> Settings:
    """The fastest by its median, if it beats the default by more than noise does."""
    best = max((one for one in speeds if speeds[one]), key=lambda settings: statistics.median(speeds[settings]))
    return best if paired_gain(speeds, best, default) >= LEAST_GAIN else default


def paired_gain(speeds: dict[Settings, list[float]], settings: Settings, default: Settings) -> float:
    """The median ratio of two candidates' speeds, round by round."""
    return statistics.median(ours / base for ours, base in zip(speeds[settings], speeds[default], strict=False))
