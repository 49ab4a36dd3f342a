"""Durations are read as people write them."""

import pytest

from src.system.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("0.5h", 1800), ("1h2m3s", 3723), ("1.5s", 1.5)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text, "budget") == seconds


@pytest.mark.parametrize("text", ["", "30", 30, "0s", "-5m", "m", "30m1h", "5d", "1h 30m", "nan", "true"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"budget={text} is not a duration: .* 1h30m"):
        parse_duration(text, "budget")


@pytest.mark.parametrize(("seconds", "text"), [(1800, "30m"), (65.2, "1m5s"), (3600, "1h"), (0.2, "0s"), (59.7, "1m")])
def test_a_duration_is_told_in_whole_seconds(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
