"""Invalid requests fail with a clear message."""

from typing import Any

import pytest

from src.advice.request import quantity, read_request

NOTHING: dict[str, Any] = dict.fromkeys(
    ("images", "size", "channels", "max_params", "max_macs", "max_latency_ms", "max_minutes")
)
NOTHING |= {"task": "classification", "device": "laptop", "format": "table"}


@pytest.mark.parametrize(
    ("value", "number"), [("1m", 1e6), ("64k", 64e3), (5, 5.0), ("1.5M", 1.5e6), ("2g", 2e9), (0.5, 0.5), (None, None)]
)
def test_quantities_are_read(value: Any, number: float | None) -> None:
    assert quantity("max_params", value) == number


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"task": "clasification"}, r"task=clasification does not exist\. Did you mean classification"),
        ({"device": "phone"}, r"device=phone does not exist\. Available: laptop, server, edge"),
        ({"format": "xml"}, r"format=xml does not exist"),
        ({"max_params": "many"}, r"max_params=many: it must be a positive number, such as 5000, 64k or 1\.5m"),
        ({"max_latency_ms": -1}, r"max_latency_ms=-1: it must be a positive number"),
        ({"max_latency_ms": "5m"}, r"max_latency_ms=5m: it must be a positive number\.$"),
        ({"images": 9, "max_minutes": "1d"}, r"max_minutes=1d: it must be a positive number"),
        ({"images": 9, "max_minutes": "m"}, r"max_minutes=m is not a duration: give hours, minutes or seconds"),
        ({"max_macs": True}, r"max_macs=True: it must be a positive number"),
        ({"images": 2.5}, r"images=2\.5: it must be a whole number"),
        ({"channels": 4}, r"channels=4: it must be 1 \(grey\) or 3 \(colour\)"),
        ({"size": 4000}, r"size=4000: it must be between 16 and 224 pixels; larger images can be resized"),
        ({"size": 4}, r"size=4: it must be between 16 and 224 pixels\.$"),
        ({"task": "forecast", "size": 28}, r"size=28 applies to images, but task=forecast has none"),
        (
            {"task": "forecast", "images": 9, "max_minutes": 5},
            r"max_minutes=5 applies to images, but task=fore",
        ),
        ({"max_minutes": 5}, r"max_minutes=5 needs images="),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, dict) else "sentence",
)
def test_what_cannot_be_is_told(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_request(NOTHING | settings)


@pytest.mark.parametrize(("value", "expected"), [(5, 5.0), ("5m", 5.0), ("1h30m", 90.0), ("30s", 0.5), (None, None)])
def test_durations_are_minutes(value: Any, expected: float | None) -> None:
    assert read_request(NOTHING | {"images": 9, "max_minutes": value}).max_minutes == expected
