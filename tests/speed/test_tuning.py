"""The search for the fastest settings, with simulated speeds."""

import random
import time
from collections import Counter

import pytest

from src.speed.tuning import ROUNDS, Settings, choose, compare, paired_gain, powers_of_two

DEFAULT = Settings(2, "contiguous", "32-true")
CANDIDATES = [
    DEFAULT,
    Settings(2, "channels_last", "32-true"),
    Settings(1, "contiguous", "32-true"),
    Settings(1, "channels_last", "32-true"),
]
FOREVER = float("inf")


@pytest.mark.parametrize("fastest", CANDIDATES, ids=str)
def test_the_choice_is_the_measured_best_in_spite_of_noise(fastest: Settings) -> None:
    generator = random.Random(0)

    def speed(settings: Settings) -> float:
        return (130 if settings == fastest else 100) * generator.uniform(0.95, 1.05)

    assert choose(compare(CANDIDATES, speed, FOREVER), DEFAULT) == fastest


def test_a_drift_of_the_machine_does_not_mislead() -> None:
    calls = Counter[None]()

    def speed(settings: Settings) -> float:  # every block is slower than the one before
        calls[None] += 1
        return (110 if settings == CANDIDATES[1] else 100) * 0.97 ** calls[None]

    assert choose(compare(CANDIDATES[:2], speed, FOREVER), DEFAULT) == CANDIDATES[1]


def test_the_default_stays_unless_it_is_clearly_beaten() -> None:
    speeds = {DEFAULT: [100.0, 101.0, 99.0], CANDIDATES[1]: [102.0, 103.0, 101.0]}
    assert choose(speeds, DEFAULT) == DEFAULT
    speeds[CANDIDATES[1]] = [104.0, 105.0, 103.0]
    assert choose(speeds, DEFAULT) == CANDIDATES[1]


def test_slow_candidates_leave_early_and_the_default_never() -> None:
    counted: Counter[Settings] = Counter()

    def speed(settings: Settings) -> float:
        counted[settings] += 1
        return {DEFAULT: 10.0, CANDIDATES[1]: 100.0}.get(settings, 20.0)

    compare(CANDIDATES, speed, FOREVER)
    assert [counted[settings] for settings in CANDIDATES] == [ROUNDS, ROUNDS, 1, 1]


def test_what_is_not_measured_in_time_is_not_chosen() -> None:
    deadline = time.perf_counter() + 0.05

    def speed(settings: Settings) -> float:
        time.sleep(0.06)
        return 100.0

    speeds = compare(CANDIDATES, speed, deadline)
    assert [len(speeds[settings]) for settings in CANDIDATES] == [1, 0, 0, 0]
    assert choose(speeds, DEFAULT) == DEFAULT


def test_at_least_the_default_is_measured_however_short_the_time() -> None:
    assert compare(CANDIDATES, lambda _: 100.0, time.perf_counter() - 1)[DEFAULT] == [100.0]


def test_gain_is_the_median_over_pairs() -> None:
    assert paired_gain({DEFAULT: [10.0, 20.0, 40.0], CANDIDATES[1]: [20.0, 30.0, 40.0]}, CANDIDATES[1], DEFAULT) == 1.5


@pytest.mark.parametrize(("limit", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_thread_counts_tried(limit: int, expected: list[int]) -> None:
    assert powers_of_two(limit) == expected
