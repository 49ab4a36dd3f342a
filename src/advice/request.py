"""Read and check a user's request."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from src.advice.kinds import KINDS, Kind
from src.cli.output import FORMATS
from src.system.durations import UNITS, parse_duration
from src.system.wording import suggest

DEVICES = ("laptop", "server", "edge")

SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
COUNTS = ("images", "max_params", "max_macs")  # the keys that take them
SIZES = (16, 224)  # of images: beyond the counted sizes, attention's MACs grow faster than linearly
COLOUR = 3
CHANNELS = (1, COLOUR)


@dataclass(frozen=True)
class Request:
    """A task, the data, the device, and limits; None where the user gives no value."""

    task: str
    device: str
    images: int | None  # number of images, texts, or windows of a series to train on
    size: int | None  # height and width of an image, in pixels
    channels: int | None
    max_params: float | None
    max_macs: float | None
    max_latency_ms: float | None
    max_minutes: float | None  # of training
    channels_assumed: bool = False

    @property
    def kind(self) -> Kind:
        """The task's nets, score and data."""
        return KINDS[self.task]

    def limits(self) -> dict[str, float]:
        """Return the limits that are set, by key."""
        names = ("max_params", "max_macs", "max_latency_ms", "max_minutes")
        return {name: limit for name in names if (limit := getattr(self, name)) is not None}


def read_request(settings: Mapping[str, Any]) -> Request:
    """Check the keys of the command line.

    Raises:
        ValueError: a value is invalid; the message names valid ones.
    """
    check_choice("task", settings["task"], tuple(KINDS))
    check_choice("device", settings["device"], DEVICES)
    check_choice("format", settings["format"], FORMATS)
    images, size, channels = (whole(name, settings[name]) for name in ("images", "size", "channels"))
    limits = {name: quantity(name, settings[name]) for name in ("max_params", "max_macs", "max_latency_ms")}
    limits["max_minutes"] = minutes("max_minutes", settings["max_minutes"])
    of_images = KINDS[settings["task"]].of_images
    assumed = of_images and size is not None and channels is None
    channels = COLOUR if assumed else channels
    request = Request(settings["task"], settings["device"], images, size, channels, **limits, channels_assumed=assumed)
    if channels not in (None, *CHANNELS):
        raise ValueError(f"channels={channels}: it must be 1 (grey) or 3 (colour).")
    if size is not None and not SIZES[0] <= size <= SIZES[1]:
        remedy = f"; larger images can be resized with data.image_size={SIZES[1]}" if size > SIZES[1] else ""
        raise ValueError(f"size={size}: it must be between {SIZES[0]} and {SIZES[1]} pixels{remedy}.")
    for name in ("size", "channels", "max_minutes"):
        if getattr(request, name) is not None and not request.kind.of_images:
            raise ValueError(f"{name}={settings[name]} applies to images, but task={request.task} has none.")
    if request.max_minutes is not None and images is None:
        raise ValueError(f"max_minutes={settings['max_minutes']} needs images=, the number of images to train on.")
    return request


def check_choice(key: str, value: Any, choices: tuple[str, ...]) -> None:
    """Check that a value is one of the choices.

    Raises:
        ValueError: it is not.
    """
    if value not in choices:
        raise ValueError(f"{key}={value} does not exist.{suggest(str(value), choices)}")


def quantity(key: str, value: Any) -> float | None:
    """Parse a positive number; those of `COUNTS` may have k, m or g for thousands, millions or billions.

    Raises:
        ValueError: it is not one.
    """
    if value is None:
        return None
    suffix, examples = ("[kmg]?", ", such as 5000, 64k or 1.5m") if key in COUNTS else ("", "")
    match = re.fullmatch(rf"([\d_]*\.?\d+(?:e\d+)?)({suffix})", str(value).lower())
    number = float(match[1]) * SUFFIXES[match[2]] if match else 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{key}={value}: it must be a positive number{examples}.")
    return number


def minutes(key: str, value: Any) -> float | None:
    """Parse a number of minutes, or a duration such as 90s or 1h30m.

    Raises:
        ValueError: it is neither.
    """
    if str(value)[-1:] in UNITS:
        value = parse_duration(value, key) / 60
    return quantity(key, value)


def whole(key: str, value: Any) -> int | None:
    """Parse a positive integer.

    Raises:
        ValueError: it is not one.
    """
    number = quantity(key, value)
    if number is not None and number != int(number):
        raise ValueError(f"{key}={value}: it must be a whole number.")
    return None if number is None else int(number)
