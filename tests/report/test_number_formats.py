"""Number formats."""

from src.report.formats import (
    format_accuracy,
    format_count,
    format_metric,
    format_seconds,
    format_tick,
    metric_formatter,
)


def test_numbers_are_written_with_as_many_digits_as_are_read() -> None:
    assert [format_tick(value) for value in (0, 0.95, 1234.5, 3.5e-5, 2e9)] == [
        "0",
        "0.95",
        "1,234",
        "3.5e-05",
        "2e+09",
    ]
    assert [format_accuracy(value) for value in (0, 0.95, 67978, 3.5e-5)] == ["0.0000", "0.9500", "67,978", "3.5e-05"]
    assert [format_metric(value) for value in (0.0123, 23.4, 67978, 3.5e-5)] == [
        "0.01230",
        "23.40",
        "67,978",
        "3.500e-05",
    ]
    written = [
        metric_formatter(name)(0.012345) for name in ("test/acc", "val/acc_best", "val/balanced_acc", "val/mse_best")
    ]
    assert written == ["0.0123", "0.0123", "0.0123", "0.01235"]
    assert [format_count(value) for value in (980, 67_978, 1_234_567, 3.1e9)] == ["980", "68k", "1.23M", "3.1G"]
    assert [format_seconds(value) for value in (0.0125, 12, 210, 7200)] == ["12.5 ms", "12 s", "3.5 min", "2 h"]
