"""Print tables that compare a net with its exported models."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.system.wording import counted

COLUMNS = ("size", "latency, 1 image", "images/s, batch 32", "int8 layers")


def print_models(rows: Mapping[str, Mapping[str, Any]], score: str, title: str) -> None:
    """Print a line for each model.

    Args:
        rows: the score, `size_mb`, `latency_ms`, `images_per_second`, and `layers` of `layers_total` for int8 ones,
            under the models' names; the net itself is "fp32".
        score: its name, such as "acc".
        title: title of the table.
    """
    table = Table(title=escape(f"{title} ({counted(torch.get_num_threads(), 'thread')})"))
    for column in ("", f"test {score}", *COLUMNS):
        table.add_column(column, justify="right" if column else "left")
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row[score]:.4f}",
            f"{row['size_mb']:.2f} MB",
            f"{row['latency_ms']:.2f} ms",
            f"{row['images_per_second']:,.0f}",
            f"{row['layers']} of {row['layers_total']}" if "layers" in row else "-",
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    slower = [name for name, row in rows.items() if row["images_per_second"] < rows["fp32"]["images_per_second"]]
    if slower:
        print_lines(f"fewer images per second than the net in float32, here: {', '.join(slower)}")


def print_lines(*lines: str) -> None:
    """Print lines without markup or wrapping."""
    console = Console(soft_wrap=True)
    for line in lines:
        console.print(line, highlight=False, markup=False)
