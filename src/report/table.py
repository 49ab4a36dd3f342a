"""The tables of configurations in the terminal, and that of runs as CSV."""

import csv
import io
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from src.report import charts
from src.report.comparisons import Comparison
from src.report.page import command
from src.run.status import FINISHED
from src.system.json_files import write_whole
from src.system.safe_files import printable

LACKING = "–"
MOST_ROWS = 40  # of a table that is read in a terminal
COLUMNS = (
    "#",
    "configuration",
    "{metric}",
    "seeds",
    "parameters",
    "MACs",
    "epoch",
    "training",
    "latency",
    "not finished",
)


def print_tables(console: Console, found: Sequence[Comparison], damaged: Sequence[str]) -> None:
    """Print a table for each data, the command of its best run, and what has been left out."""
    for one in found:
        console.print(table(one, titled=len(found) > 1))
        lines = [one.note] if one.note else []
        if (rest := len(one.configurations) - MOST_ROWS) > 0:
            lines.append(f"… and {rest} more configurations, which the page and the CSV file hold.")
        if one.best_run is not None:
            lines.append(f"the best run: {command(one.best_run)}")
        for line in lines:
            console.print(printable(line), highlight=False, soft_wrap=True, markup=False)
    for sentence in damaged[:MOST_ROWS]:
        console.print(f"left out: {printable(sentence)}", highlight=False, soft_wrap=True, markup=False)
    if (rest := len(damaged) - MOST_ROWS) > 0:
        console.print(f"left out: … and {rest} more, which the page names.", highlight=False)


def table(comparison: Comparison, titled: bool = False) -> Table:
    """A line for each of the best configurations; what is lacking is shown as lacking."""
    metric, text = comparison.metric, charts.text_of(comparison.metric)
    result = Table(title=printable(comparison.data).replace("[", r"\[") if titled else None, title_justify="left")
    for title in COLUMNS:
        result.add_column(
            printable(title.format(metric=metric)).replace("[", r"\["),
            justify="left" if title in ("configuration", "not finished") else "right",
            overflow="fold",
        )
    for rank, one in enumerate(comparison.configurations[:MOST_ROWS], 1):
        std = one.std(metric)
        others = ", ".join(f"{number} {status}" for status, number in one.statuses.items() if status != FINISHED)
        result.add_row(
            str(rank),
            printable(one.label).replace("[", r"\["),
            cell(one.mean(metric), text) + (f" ± {text(std)}" if std is not None else ""),
            str(len(one.values(metric))),
            cell(one.mean("params"), "{:,.0f}".format),
            cell(one.mean("macs"), charts.count),
            cell(one.mean("epoch_seconds"), charts.duration),
            cell(one.mean("train_seconds"), charts.duration),
            cell(one.mean("latency_ms"), charts.milliseconds),
            others,
        )
    return result


def cell(value: float | None, text: Callable[[float], str]) -> str:
    """A value as text."""
    return LACKING if value is None else text(value)


def write_csv(path: Path, found: Sequence[Comparison]) -> None:
    """Write a line for each run: what it is, how it stands, its command and all its figures."""
    rows = []
    for comparison in found:
        for one in comparison.configurations:
            for run in one.runs:
                epochs = {} if run.epochs is None else {"epochs": run.epochs}
                before = {"data": comparison.data, "configuration": one.label, "seed": run.seed, "status": run.status}
                after = {"overrides": shlex.join(run.overrides), "error": run.error, "folder": run.folder}
                rows.append((before, {**run.figures, **epochs}, {**after, "command": command(run)}))
    figures = sorted({name for before, own, after in rows for name in own if name not in before and name not in after})
    before, _, after = rows[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.StringIO(newline="") as file:
        writer = csv.DictWriter(file, [*before, *figures, *after])
        writer.writeheader()
        writer.writerows({**own, **before, **after} for before, own, after in rows)
        write_whole(path, file.getvalue())
