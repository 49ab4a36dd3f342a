"""The table of configurations in the terminal, and that of runs as CSV."""

import csv
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from src.report import charts
from src.report.page import command
from src.report.statistics import Configuration
from src.utils.job_status import FINISHED

LACKING = "–"


def table(found: Sequence[Configuration], metric: str) -> Table:
    """A line for each configuration; what is lacking is shown as lacking."""
    result = Table()
    for title in ("#", "configuration", metric, "seeds", "parameters", "epoch", "training", "latency", "not finished"):
        result.add_column(
            title, justify="left" if title in ("configuration", "not finished") else "right", overflow="fold"
        )
    for rank, one in enumerate(found, 1):
        std = one.std(metric)
        others = ", ".join(f"{number} {status}" for status, number in one.statuses.items() if status != FINISHED)
        result.add_row(
            str(rank),
            one.label.replace("[", r"\["),
            cell(one.mean(metric), charts.precise) + (f" ± {charts.precise(std)}" if std is not None else ""),
            str(len(one.values(metric))),
            cell(one.mean("params"), "{:,.0f}".format),
            cell(one.mean("epoch_seconds"), charts.duration),
            cell(one.mean("train_seconds"), charts.duration),
            cell(one.mean("latency_ms"), charts.milliseconds),
            others,
        )
    return result


def cell(value: float | None, text: Callable[[float], str]) -> str:
    """A value as text."""
    return LACKING if value is None else text(value)


def write_csv(path: Path, found: Sequence[Configuration]) -> None:
    """Write a line for each run: what it is, how it stands, its command and all its figures."""
    runs = [(one, run) for one in found for run in one.runs]
    figures = sorted({name for _, run in runs for name in run.figures})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["configuration", "seed", "status", "epochs", *figures, "overrides", "error", "folder", "command"]
        )
        for one, run in runs:
            values = [run.figures.get(name, "") for name in figures]
            epochs = "" if run.epochs is None else run.epochs
            seed = "" if run.seed is None else run.seed
            told = [shlex.join(run.overrides), run.error or "", run.folder, command(run)]
            writer.writerow([one.label, seed, run.status, epochs, *values, *told])
