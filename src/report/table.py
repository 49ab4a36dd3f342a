"""The tables of configurations in the terminal, and the CSV file of runs."""

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.report.comparisons import Comparison
from src.report.formats import COST_COLUMNS, Formatter, metric_formatter
from src.report.page import command
from src.report.statistics import repeated
from src.run.status import FINISHED
from src.system.json_files import write_whole
from src.system.safe_files import printable

MAX_ROWS = 40  # rows of a table in the terminal


def print_tables(console: Console, comparisons: Sequence[Comparison], damaged: Sequence[str]) -> None:
    """Print a table for each comparison, the command of its best run, and the runs left out."""
    for comparison in comparisons:
        console.print(table(comparison, titled=len(comparisons) > 1))
        lines = [comparison.note] if comparison.note else []
        if (rest := len(comparison.configurations) - MAX_ROWS) > 0:
            lines.append(f"… and {rest} more configurations, listed on the page and in the CSV file.")
        if comparison.best_run is not None:
            lines.append(f"the best run: {command(comparison.best_run)}")
        print_lines(console, lines)
    print_lines(console, [f"left out: {sentence}" for sentence in damaged[:MAX_ROWS]])
    if (rest := len(damaged) - MAX_ROWS) > 0:
        print_lines(console, [f"left out: … and {rest} more, listed on the page."])


def print_lines(console: Console, lines: Sequence[str]) -> None:
    """Print each line as it is, without control characters."""
    for line in lines:
        console.print(printable(line), highlight=False, soft_wrap=True, markup=False)


def table(comparison: Comparison, titled: bool = False) -> Table:
    """Tabulate the best configurations of a comparison."""
    metric, formatter, repeats = comparison.metric, metric_formatter(comparison.metric), repeated(comparison.runs)
    result = Table(title=cell(comparison.data) if titled else None, title_justify="left")
    for title in ("#", "configuration", metric, repeats, *(title for title, _, _ in COST_COLUMNS), "not finished"):
        justify = "left" if title in ("configuration", "not finished") else "right"
        result.add_column(cell(title), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for rank, configuration in enumerate(comparison.configurations[:MAX_ROWS], 1):
        std = configuration.std(metric)
        statuses = configuration.statuses.items()
        result.add_row(
            str(rank),
            cell(configuration.label),
            number(configuration.mean(metric), formatter) + (f" ± {formatter(std)}" if std is not None else ""),
            str(len(configuration.values(metric))),
            *(number(configuration.mean(cost), format_cost) for _, cost, format_cost in COST_COLUMNS),
            ", ".join(f"{count} {status}" for status, count in statuses if status != FINISHED),
        )
    return result


def cell(text: str) -> str:
    """Make text printable, and escape rich's markup."""
    return escape(printable(text))


def number(value: float | None, formatter: Formatter) -> str:
    """Format a value that may be missing."""
    return "–" if value is None else formatter(value)


def run_rows(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return a row for each run: its data, settings, status, metrics (None if missing) and command."""
    first, last = ("data", "configuration", "seed", "fold", "status"), ("overrides", "error", "folder", "command")
    rows: list[dict[str, Any]] = []
    for comparison in comparisons:
        for configuration in comparison.configurations:
            for run in configuration.runs:
                identity = (comparison.data, configuration.label, run.seed, run.fold, run.status)
                details = (shlex.join(run.overrides), run.error, str(run.folder), command(run))
                epochs = {} if run.epochs is None else {"epochs": run.epochs}
                rows.append({**run.metrics, **epochs, **dict(zip((*first, *last), (*identity, *details), strict=True))})
    metrics = sorted({name for row in rows for name in row} - {*first, *last})
    return [{name: row.get(name) for name in (*first, *metrics, *last)} for row in rows]


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values: its data, metric and configurations, the best first."""
    metric = comparison.metric
    configurations = [
        {"label": one.label, "runs": len(one.values(metric)), "mean": one.mean(metric), "std": one.std(metric)}
        for one in comparison.configurations
    ]
    best = comparison.best_run
    return {
        "data": comparison.data,
        "metric": metric,
        "mode": "min" if comparison.minimised else "max",
        "best_run": None if best is None else str(best.folder),
        "configurations": configurations,
    }


def write_csv(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write a table of the runs; see `run_rows`."""
    rows = run_rows(comparisons)
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.StringIO(newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, file.getvalue())
