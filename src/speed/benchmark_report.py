"""The table, the JSON file and the plot of `src/benchmark.py`."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.run.record import environment
from src.system.json_files import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "benchmark"


def add_to_report(figures: list[dict[str, Any]], folder: Path) -> None:
    """Add the figures of models to those in the folder, write JSON and plot anew, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.json"
    rows = json.loads(path.read_text())["models"] if path.is_file() else []
    rows += figures
    write_json(path, {"environment": environment(), "models": rows})
    plot(rows, path.with_suffix(".png"))
    console = Console(width=None if sys.stdout.isatty() else 220)
    console.print(table(rows))
    console.print(
        f"figures and plot: {path}, {path.with_suffix('.png')}", markup=False, highlight=False, soft_wrap=True
    )


def table(rows: list[dict[str, Any]]) -> Table:
    """A line for each model."""
    result = Table(title="images/s: median ± half the distance of the quartiles; memory: peak of the process")
    columns = ["model", "settings", "params", "MACs", "train images/s", "of peak", "memory"]
    sizes = sorted({size for row in rows for size in row["inference_images_per_second"]}, key=int)
    columns += [f"inference, batch {size}" for size in sizes]
    for column in [*columns, "latency p50 / p95", "test acc"]:
        result.add_column(column, justify="left" if column in ("model", "settings") else "right", overflow="fold")
    for row in rows:
        result.add_row(
            escape(row["model"]),
            " ".join(
                [f"{row['threads']} threads", row["memory_format"], row["precision"], "compiled" * row["compiled"]]
            ).strip(),
            f"{row['params']:,}",
            *(trained_cells(row) if "macs" in row else ["-"] * 4),
            *(f"{row['inference_images_per_second'].get(size, math.nan):,.0f}" for size in sizes),
            f"{row['latency_ms_p50']:.2f} / {row['latency_ms_p95']:.2f} ms",
            "-" if row["accuracy"] is None else f"{row['accuracy']:.4f} ({row['accuracy_data']})",
        )
    return result


def trained_cells(row: dict[str, Any]) -> list[str]:
    """What is measured of a net and not of an exported model."""
    return [
        f"{row['macs'] / 1e6:,.1f} M",
        f"{row['train_images_per_second']:,.0f} ± {row['train_spread']:.0%}",
        f"{row['train_share_of_peak']:.0%}",
        f"{row['train_peak_memory_mb']:,.0f} MB",
    ]


def recorded_accuracy(model: str, log_dir: Path) -> dict[str, Any]:
    """The test accuracy of the latest run of a named model under a folder, and its data; None where there is none."""
    for path in sorted(runs(log_dir), key=lambda path: path.stat().st_mtime, reverse=True):
        record = json.loads(path.read_text())
        choices = record.get("choices", {})
        if choices.get("debug"):
            continue
        accuracy = json.loads((path.parent / "metrics.json").read_text()).get("test/acc")
        if choices.get("model") == model and accuracy is not None:
            return {"accuracy": accuracy, "accuracy_data": choices["data"]}
    return {"accuracy": None, "accuracy_data": None}


def runs(log_dir: Path) -> Iterator[Path]:
    """The record of every run under a folder that has figures, too."""
    return (path for path in log_dir.rglob("run.json") if (path.parent / "metrics.json").is_file())


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy against latency and against parameters; speed in its place where no accuracy is on record."""
    from matplotlib.figure import Figure

    known = [row for row in rows if row["accuracy"] is not None]
    shown = known or [row for row in rows if "macs" in row]
    value = "accuracy" if known else "train_images_per_second"
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, 2, sharey=True))
    axes[0].set_ylabel("test accuracy" if known else "training, images/s (no run has recorded an accuracy)")
    for axis, key, label in zip(
        axes, ("latency_ms_p50", "params"), ("latency of an image, ms", "parameters"), strict=True
    ):
        axis.set_xlabel(label)
        axis.set_xscale("log")
        axis.grid(alpha=0.3)
        for row in shown:
            axis.scatter(row[key], row[value])
            style: dict[str, Any] = {"fontsize": 8, "parse_math": False}
            axis.annotate(row["model"], (row[key], row[value]), textcoords="offset points", xytext=(5, 4), **style)
        axis.margins(x=0.25)
    figure.savefig(path, dpi=120)
