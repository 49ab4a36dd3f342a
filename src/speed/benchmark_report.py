"""The table, the JSON file and the plot of `src/benchmark.py`."""

import logging
import math
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.run.record import environment
from src.run.reuse import FORMER_SCORE
from src.system import safe_files
from src.system.json_files import part, read_json, write_json
from src.system.locks import locked

log = logging.getLogger(__name__)

NAME = "benchmark"
LOCKS = ".benchmark"  # the folder of the lock
PATIENCE = 60  # seconds to wait for other jobs, each of which takes one or two


def add_to_report(models: list[dict[str, Any]], folder: Path) -> None:
    """Add what was measured of models to the report in a folder: write JSON and plot anew, and print the table.

    Raises:
        ValueError: other jobs of the sweep keep the report for themselves, or a symbolic link has the name of the lock.
    """
    path = folder / f"{NAME}.json"
    with locked(folder / LOCKS, "another job writes its report there.", PATIENCE):  # the sweep holds the folder's own
        rows = [*read_rows(path), *models]
        write_json(path, {"environment": environment(), "models": rows})
        plot(rows, path.with_suffix(".png"))
    console = Console(width=None if sys.stdout.isatty() else 220)
    console.print(table(rows))
    written = f"metrics and plot: {path}, {path.with_suffix('.png')}"
    console.print(written, markup=False, highlight=False, soft_wrap=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a report; none where there is none. One that is damaged is kept under another name, and said."""
    try:
        rows = [upgrade(row) for row in safe_files.read_json(path)["models"]]
        table(rows)  # what cannot be shown is of no use
        return rows
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        kept = path.with_name(f"{NAME}.damaged-{secrets.token_hex(4)}.json")
        path.rename(kept)
        log.warning("%s is damaged: it begins anew, and what it was is kept as %s.", path, kept.name)
        return []


def upgrade(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is written now; there was a time when all models were classifiers."""
    if "score" in row:
        return row
    former = {"score_value": row["accuracy"], "score_data": row["accuracy_data"]}
    rest = {key: value for key, value in row.items() if key not in ("accuracy", "accuracy_data")}
    return {**rest, "score": FORMER_SCORE["score"], **former}


def table(rows: list[dict[str, Any]]) -> Table:
    """A line for each model."""
    result = Table(title="images/s: median ± half the distance of the quartiles; memory: peak of the process")
    columns = ["model", "settings", "params", "MACs", "train images/s", "of peak", "memory"]
    sizes = sorted({size for row in rows for size in row["inference_images_per_second"]}, key=int)
    columns += [f"inference, batch {size}" for size in sizes]
    scores = list(dict.fromkeys(row["score"] for row in rows))
    for column in [*columns, "latency p50 / p95", *(f"test {score}" for score in scores)]:
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
            *(score_cell(row) if row["score"] == score else "-" for score in scores),
        )
    return result


def score_cell(row: dict[str, Any]) -> str:
    """A model's score, and on which data."""
    return "-" if row["score_value"] is None else f"{row['score_value']:.4f} ({row['score_data']})"


def trained_cells(row: dict[str, Any]) -> list[str]:
    """What is measured of a net and not of an exported model."""
    return [
        f"{row['macs'] / 1e6:,.1f} M",
        f"{row['train_images_per_second']:,.0f} ± {row['train_spread']:.0%}",
        f"{row['train_share_of_peak']:.0%}",
        f"{row['train_peak_memory_mb']:,.0f} MB",
    ]


def recorded_score(model: str, log_dir: Path) -> dict[str, Any] | None:
    """Look up how good a named model was on test data in the latest run of it under a folder.

    Returns:
        `score`: the metric's name, `score_value` and `score_data`; None where no run has tested the model. Runs whose
        files are damaged are left out.
    """
    for path in sorted(runs(log_dir), key=lambda path: path.stat().st_mtime, reverse=True):
        record = {**FORMER_SCORE, **read_json(path)}
        choices, score = part(record, "choices"), record["score"]
        if choices.get("model") != model or choices.get("debug"):
            continue
        value, data = read_json(path.parent / "metrics.json").get(f"test/{score}"), choices.get("data")
        is_number = isinstance(value, int | float) and math.isfinite(value)
        if is_number and isinstance(score, str) and isinstance(data, str):
            return {"score": score, "score_value": value, "score_data": data}
    return None


def runs(log_dir: Path) -> Iterator[Path]:
    """The record of every run under a folder that has metrics, too; what is no file is left out."""
    return (path for path in log_dir.rglob("run.json") if path.is_file() and (path.parent / "metrics.json").is_file())


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw each score against latency and against parameters; speed in its place where no score is on record."""
    from matplotlib.figure import Figure

    drawn: dict[str, list[tuple[dict[str, Any], float]]] = {}  # rows and their heights, by the axis' label
    for row in rows:
        if row["score_value"] is not None:
            drawn.setdefault(f"test {row['score']}", []).append((row, row["score_value"]))
    if not drawn:
        label = "training, images/s (no run has recorded a score)"
        drawn[label] = [(row, row["train_images_per_second"]) for row in rows if "macs" in row]
    figure = Figure(figsize=(11, 4.5 * len(drawn)), layout="constrained")
    grid = figure.subplots(len(drawn), 2, sharey="row", squeeze=False)
    for axes, (label, points) in zip(grid, drawn.items(), strict=True):
        axes[0].set_ylabel(label)
        for axis, key, name in zip(
            axes, ("latency_ms_p50", "params"), ("latency of an image, ms", "parameters"), strict=True
        ):
            axis.set_xlabel(name)
            axis.set_xscale("log")
            axis.grid(alpha=0.3)
            for row, height in points:
                axis.scatter(row[key], height)
                style: dict[str, Any] = {"fontsize": 8, "parse_math": False}
                axis.annotate(row["model"], (row[key], height), textcoords="offset points", xytext=(5, 4), **style)
            axis.margins(x=0.25)
    figure.savefig(path, dpi=120)
