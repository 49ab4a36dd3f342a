"""Durations as users type them and messages show them: 90s, 30m, 1h30m."""

import re

UNITS = {"h": 3600, "m": 60, "s": 1}
NUMBER = r"(\d+(?:\.\d+)?)"
PATTERN = re.compile("".join(f"(?:{NUMBER}{unit})?" for unit in UNITS))


def parse_duration(text: str | float, key: str) -> float:
    """Return the seconds of a duration, such as 90s, 1h30m or 0.5h.

    Raises:
        ValueError: the text is not a duration, or is 0; the message names `key`.
    """
    match = PATTERN.fullmatch(str(text).strip())
    seconds = (
        sum(float(part or 0) * size for part, size in zip(match.groups(), UNITS.values(), strict=True)) if match else 0
    )
    if not seconds:
        raise ValueError(f"{key}={text} is not a duration: give hours, minutes or seconds, such as 1h30m, 0.5h or 90s.")
    return seconds


def format_duration(seconds: float) -> str:
    """Return a duration in hours, minutes and whole seconds: 1h30m, 1m5s."""
    left, parts = round(seconds), []
    for unit, size in UNITS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
