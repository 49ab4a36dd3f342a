"""Format numbers in tables and charts."""

from collections.abc import Callable

Formatter = Callable[..., str]  # takes a number and, optionally, how many digits to write


def metric_formatter(metric: str) -> Formatter:
    """Return the formatter of a metric: four decimals for accuracies, four significant digits for others."""
    return format_accuracy if metric.removesuffix("_best").endswith("acc") else format_metric


def format_accuracy(value: float) -> str:
    """Format an accuracy: 0.9412."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1000 else format_tick(value)


def format_metric(value: float) -> str:
    """Format a metric of any size: 0.01230, 23.41, 12,345, 3.500e-05."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:#.4g}"


def format_tick(value: float, digits: int = 4) -> str:
    """Format a number on an axis: 0.95, 1,200, 3.5e-05."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return f"{value:.{digits - 2}g}"


def format_integer(value: float) -> str:
    """Format a count with all its digits: 67,978."""
    return f"{value:,.0f}"


def format_count(value: float, digits: int = 3) -> str:
    """Format a number of parameters or operations: 980, 68k, 1.2M, 3.1G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.{digits}g}{unit}"
    return f"{value:.0f}"


def format_seconds(seconds: float, digits: int = 3) -> str:
    """Format a duration: 350 ms, 12 s, 3.5 min, 2 h."""
    for limit, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= limit:
            return f"{seconds / limit:.{digits}g} {unit}"
    return f"{seconds * 1000:.{digits}g} ms"


def format_milliseconds(value: float, digits: int = 3) -> str:
    """Format a latency in milliseconds."""
    return format_seconds(value / 1000, digits)


# columns of both tables, in the terminal and on the page: title, metric and formatter
COST_COLUMNS: list[tuple[str, str, Formatter]] = [
    ("parameters", "params", format_integer),
    ("MACs", "macs", format_count),
    ("epoch", "epoch_seconds", format_seconds),
    ("training", "train_seconds", format_seconds),
    ("latency", "latency_ms", format_milliseconds),
]
