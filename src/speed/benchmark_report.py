"""The table, the JSON file and the plot of `src/benchmark.py`."""

import logging
import math
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.run.file_names import OVERRIDES
from src.run.record import environment
from src.run.recorded_overrides import parse_recorded
from src.run.scores import LEGACY_SCORE
from src.system import safe_files
from src.system.json_files import part, read_json, write_json
from src.system.locks import locked

log = logging.getLogger(__name__)

NAME = "benchmark"
LOCKS = ".benchmark"  # the folder of the lock
NEAR_BEST = 0.95  # share of the best speed that a recommended batch size must reach
PATIENCE = 60  # seconds to wait for other jobs, which take one or two each


def add_to_report(models: list[dict[str, Any]], folder: Path) -> None:
    """Add measured models to the report in a folder: rewrite its JSON file and plot, and print the table.

    Raises:
        ValueError: another job of the sweep holds the lock for too long, or the lock is a symbolic link.
    """
    path = folder / f"{NAME}.json"
    with locked(folder / LOCKS, "another job writes its report there.", PATIENCE):  # the sweep holds the folder's own
        rows = [*read_rows(path), *models]
        write_json(path, {"environment": environment(), "models": rows})
        plot(rows, path.with_suffix(".png"))
    console = Console(width=None if sys.stdout.isatty() else 220)
    console.print(table(rows))
    for row in models:
        if row.get("batch_sizes"):
            console.print(batch_size_table(row))
            best = recommended_batch_size(row["batch_sizes"])
            console.print(f"the smallest batch within 5 % of the best speed: data.batch_size={best}", highlight=False)
    written = f"metrics and plot: {path}, {path.with_suffix('.png')}"
    console.print(written, markup=False, highlight=False, soft_wrap=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a report; a damaged report is renamed, with a warning, and counts as empty."""
    try:
        rows = [upgrade(row) for row in safe_files.read_json(path)["models"]]
        table(rows)  # raises if a row cannot be shown
        return rows
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        kept = path.with_name(f"{NAME}.damaged-{secrets.token_hex(4)}.json")
        path.rename(kept)
        log.warning("%s is damaged: it was renamed to %s, and a new report is started.", path, kept.name)
        return []


def upgrade(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row from before tasks named their score, when all models were classifiers."""
    if "score" in row:
        return row
    row["score"] = LEGACY_SCORE["score"]
    row["score_value"], row["score_data"] = row.pop("accuracy"), row.pop("accuracy_data")
    return row


def table(rows: list[dict[str, Any]]) -> Table:
    """Tabulate the models."""
    result = Table(title="images/s: median ± half the interquartile range; memory: peak of the process")
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
            *(training_cells(row) if "macs" in row else ["-"] * 4),  # exported models are not trained
            *(f"{row['inference_images_per_second'].get(size, math.nan):,.0f}" for size in sizes),
            f"{row['latency_ms_p50']:.2f} / {row['latency_ms_p95']:.2f} ms",
            *(
                f"{row['score_value']:.4f} ({row['score_data']})"
                if row["score"] == score and row["score_value"] is not None
                else "-"
                for score in scores
            ),
        )
    return result


def batch_size_table(row: dict[str, Any]) -> Table:
    """Tabulate a model's train steps with several batch sizes."""
    result = Table(title=escape(row["model"]))
    for column in ("batch size", "train images/s", "of the best", "memory"):
        result.add_column(column, justify="right")
    for one in row["batch_sizes"]:
        speed, memory = f"{one['images_per_second']:,.0f}", f"{one['peak_memory_mb']:,.0f} MB"
        result.add_row(str(one["batch_size"]), speed, f"{one['share_of_best']:.0%}", memory)
    return result


def recommended_batch_size(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return the smallest batch size that is nearly as fast as the fastest: it makes the most steps per epoch."""
    return min(row["batch_size"] for row in rows if row["share_of_best"] >= NEAR_BEST)


def training_cells(row: dict[str, Any]) -> list[str]:
    """Format the measurements that exported models lack."""
    return [
        f"{row['macs'] / 1e6:,.1f} M",
        f"{row['train_images_per_second']:,.0f} ± {row['train_spread']:.0%}",
        f"{row['train_share_of_peak']:.0%}",
        f"{row['train_peak_memory_mb']:,.0f} MB",
    ]


def recorded_score(model: str, log_dir: Path) -> dict[str, Any] | None:
    """Look up the test score of a named model in its latest run under a folder.

    Ignores damaged runs, and runs that overrode a value of the net or the task.

    Returns:
        `score`: the metric's name, `score_value` and `score_data`; None if no run has tested the model.
    """
    paths = [path for path in log_dir.rglob("run.json") if path.is_file() and (path.parent / "metrics.json").is_file()]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        record = {**LEGACY_SCORE, **read_json(path)}
        choices, score = part(record, "choices"), record["score"]
        if choices.get("model") != model or choices.get("debug") or changes_net(path.parent):
            continue
        value, data = read_json(path.parent / "metrics.json").get(f"test/{score}"), choices.get("data")
        is_number = isinstance(value, int | float) and math.isfinite(value)
        if is_number and isinstance(score, str) and isinstance(data, str):
            return {"score": score, "score_value": value, "score_data": data}
    return None


def changes_net(folder: Path) -> bool:
    """Return whether a run overrode a value of its named model's net or task."""
    if not (folder / OVERRIDES).is_file():
        return False
    try:
        overrides = parse_recorded(folder / OVERRIDES)
    except ValueError:  # damaged
        return True
    return any(override.key_or_group.startswith(("model.net", "model._target_")) for override in overrides)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot each score against latency and parameters; if there is none, the training speed instead."""
    from matplotlib.figure import Figure

    points: dict[str, list[tuple[dict[str, Any], float]]] = {}  # rows and their y values, by the axis label
    for row in rows:
        if row["score_value"] is not None:
            points.setdefault(f"test {row['score']}", []).append((row, row["score_value"]))
    if not points:
        label = "training, images/s (no run has recorded a score)"
        points[label] = [(row, row["train_images_per_second"]) for row in rows if "macs" in row]
    figure = Figure(figsize=(11, 4.5 * len(points)), layout="constrained")
    grid = figure.subplots(len(points), 2, sharey="row", squeeze=False)
    for axes, (label, heights) in zip(grid, points.items(), strict=True):
        axes[0].set_ylabel(label)
        columns = (("latency_ms_p50", "latency of an image, ms"), ("params", "parameters"))
        for axis, (key, name) in zip(axes, columns, strict=True):
            axis.set(xlabel=name, xscale="log")
            axis.grid(alpha=0.3)
            for row, height in heights:
                axis.scatter(row[key], height)
                style: dict[str, Any] = {"fontsize": 8, "parse_math": False}
                axis.annotate(row["model"], (row[key], height), textcoords="offset points", xytext=(5, 4), **style)
            axis.margins(x=0.25)
    figure.savefig(path, dpi=120)
