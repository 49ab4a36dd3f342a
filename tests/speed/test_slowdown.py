"""A training warns once if other programs slow it down."""

import logging
import time
from typing import Any

import pytest
import torch

from src.speed.slowdown import SlowdownWatch


def train(watch: SlowdownWatch, monkeypatch: pytest.MonkeyPatch, step_seconds: list[float], size: int = 1) -> None:
    """Simulate steps of given durations, with a minute between them."""
    now = 0.0
    nothing: Any = None
    batch = (torch.zeros(100, 1, size, size), torch.zeros(100))
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    for number, seconds in enumerate(step_seconds):
        now += 60
        watch.on_train_batch_start(nothing, nothing, batch, number)
        now += seconds
        watch.on_train_batch_end(nothing, nothing, None, batch, number)


def test_a_fall_below_half_is_reported_once_and_again_after_a_recovery(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = SlowdownWatch(seconds=2)
    with caplog.at_level(logging.INFO):
        train(watch, monkeypatch, [0.5] * 8 + [0.9] * 6)
        assert not caplog.records  # slower, and not by half
        train(watch, monkeypatch, [1.5] * 8)
        (record,) = caplog.records
        assert "from 200 to 67 images/s" in record.message and "\n" not in record.message
        caplog.clear()
        train(watch, monkeypatch, [0.5] * 4 + [3.0] * 2)
        assert len(caplog.records) == 1


def test_larger_images_take_longer_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = SlowdownWatch(seconds=2)
    with caplog.at_level(logging.INFO):
        train(watch, monkeypatch, [0.5] * 8, size=8)
        train(watch, monkeypatch, [2.0] * 8, size=16)
        assert not caplog.records
        train(watch, monkeypatch, [5.0] * 2, size=16)
        assert len(caplog.records) == 1


@pytest.mark.parametrize("options", [{"seconds": 0}, {"ratio": 0}, {"ratio": 0.9}])
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        SlowdownWatch(**options)
