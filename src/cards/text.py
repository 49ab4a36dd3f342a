"""A card as text: tables for the terminal and as Markdown."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from src.report.formats import format_count, format_integer, format_milliseconds
from src.system.json_files import write_whole

MARKDOWN = "card.md"
WIDE, WIDER = 100, 118  # minimum terminal widths for the columns of memory and of times


def format_bytes(size: float) -> str:
    """Format a size: 980 B, 12.3 kB, 4.56 MB; powers of ten, three digits."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= limit:
            return f"{size / limit:.3g} {unit}" if size < 999.5 * limit else f"{size / limit:,.0f} {unit}"
    return f"{size:.0f} B"


def format_shape(shape: Iterable[int]) -> str:
    """Format the shape of a tensor: 64×32×32; "–" for a single number."""
    return "×".join(map(str, shape)) or "–"


def format_sees(layer: Mapping[str, Any]) -> str:
    """Format a receptive field: 5×5, "all" if each value depends on the whole input, "–" if on none of it."""
    if layer["sees"] is None:
        return "–"
    return "all" if layer["sees_all"] else format_shape(layer["sees"])


def format_share(share: float | None) -> str:
    """Format a share of the time: 12 % or <1 %."""
    if share is None:
        return ""
    return "<1 %" if 0 < share < 0.005 else f"{share:.0%}".replace("%", " %")


def format_latency(value: float | None) -> str:
    """Format a latency in milliseconds, or "not measured"."""
    return "not measured" if value is None else format_milliseconds(value)


def facts(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the formatted totals of a card by name, for all output formats."""
    totals, speeds = card["totals"], card["totals"]["latency_ms"]
    frozen = f" and {format_integer(totals['params_frozen'])} frozen" if totals["params_frozen"] else ""
    estimate = ", an estimate" if totals["int8_is_estimate"] else ", measured"
    batch = f" for a batch of {card['batch_size']}"
    return {
        "net": f"{card['net']} ({card['task']})",
        "input": " ".join(filter(None, [format_shape(card["input_shape"]), card["data"] and f"({card['data']})"])),
        "parameters": format_integer(totals["params"]) + frozen,
        "MACs": f"{format_integer(totals['macs'])} for one input",
        "receptive field": receptive_field(card),
        "weights": f"{format_bytes(totals['weights_bytes'])}; with the optimizer's state "
        f"{format_bytes(totals['checkpoint_bytes'])}",
        "weights as int8": format_bytes(totals["int8_bytes"]) + estimate,
        "inference holds": f"{format_bytes(totals['inference_bytes'])} of activations at its peak{batch}",
        "training keeps": f"{format_bytes(totals['training_bytes'])} of activations for the backward pass{batch}",
        "latency": ", ".join(f"{name} {format_latency(value)}" for name, value in speeds.items())
        if any(value is not None for value in speeds.values())
        else "not measured",
    }


def receptive_field(card: Mapping[str, Any]) -> str:
    """Describe the receptive field of the output, and of the last layer that does not see the whole input."""
    last = card["layers"][-1]
    if not last["sees_all"]:
        return f"{format_sees(last)} {card['unit']}"
    parts = [one for one in card["layers"] if one["sees"] and not one["sees_all"]]
    before = f"; up to {format_sees(parts[-1])} {card['unit']} in {parts[-1]['name']}" if parts else ""
    return f"the whole input{before}"


def title_of(layer: Mapping[str, Any]) -> str:
    """Return the kind of a layer with its window: Conv2d 3×3 /2."""
    return f"{layer['kind']} {layer['kernel']}".strip()


def folded(layers: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the layers, with one row that sums up all further repeats of a block."""
    for (_, again), members in groupby(layers, key=lambda one: (one["stage"], one["repeat"] > 0)):
        rows = list(members)
        if not again or len(rows) == 1:
            yield from rows
            continue
        times = rows[-1]["repeat"]
        sums = {key: sum(one[key] for one in rows) for key in ("params", "macs", "kept")}
        shares = [one["share"] for one in rows if one["share"] is not None]
        yield {
            **rows[-1],
            **sums,
            "name": f"× {times} more",
            "kind": "the same again",
            "kernel": "",
            "memory": max(one["memory"] for one in rows),
            "share": sum(shares) if shares else None,
        }


def layer_table(card: Mapping[str, Any], width: int) -> Table:
    """Tabulate the layers for a terminal of the given width."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    timed, wide = card["timed"] and width >= WIDER, width >= WIDE
    table.add_column("layer", no_wrap=True, max_width=34 if wide else 20)
    table.add_column("kind", no_wrap=True, max_width=28 if wide else 22, overflow="ellipsis")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_column("sees", justify="right", no_wrap=True)
    if wide:
        table.add_column("holds", justify="right", no_wrap=True)
        table.add_column("keeps", justify="right", no_wrap=True)
    if timed:
        table.add_column("time", justify="right", no_wrap=True)
    for row in folded(card["layers"]):
        counts = bool(row["params"] or row["macs"])
        cells: list[Any] = [
            Text(shortened(row["name"] or "(net)", 34 if wide else 20), style="bold" if counts else "dim"),
            Text(title_of(row), style="" if counts else "dim"),
            format_shape(row["shape"]),
            format_integer(row["params"]) if row["params"] else "",
            format_count(row["macs"]) if row["macs"] else "",
            format_sees(row),
        ]
        cells += [format_bytes(row["memory"]), format_bytes(row["kept"]) if row["kept"] else ""] if wide else []
        cells += [format_share(row["share"])] if timed else []
        table.add_row(*cells, style="italic" if row["name"].startswith("× ") else None)
    return table


def shortened(name: str, width: int) -> str:
    """Shorten a path from the left, where neighbouring rows are alike."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def print_card(card: Mapping[str, Any], folder: Path) -> None:
    """Print a card as a table."""
    console = make_console()
    console.print(f"\n[bold]{escape(card['name'])}[/bold]", highlight=False)
    console.print(layer_table(card, console.width), highlight=False)
    totals = Table.grid(padding=(0, 2, 0, 0))
    totals.add_column(style="dim", no_wrap=True)
    totals.add_column()
    for name, value in facts(card).items():
        totals.add_row(name, escape(value))
    console.print(totals, highlight=False)
    for note in (legend(card, wide=console.width >= WIDE), *card["notes"]):
        console.print(f"[dim]{escape(note)}[/dim]", highlight=False)
    console.print(f"\ncard: {folder}/card.html, .md, .json", markup=False, highlight=False, soft_wrap=True)


def legend(card: Mapping[str, Any], wide: bool = True) -> str:
    """Explain the columns of the table of layers; a narrow table has no columns of memory."""
    memory = (
        " holds: peak memory of activations while it runs; keeps: activations saved for the backward pass; both for a "
        f"batch of {card['batch_size']}."
    )
    return (
        f"sees: the receptive field, the largest number of input {card['unit']} that an output value depends on, for "
        "any weights, padding included; all: each value depends on the whole input."
        f"{memory if wide else ''} /2: stride, d2: dilation, g2: groups."
    )


def make_console() -> Console:
    """Return a console of the terminal's width, or a wide one for files and pipes."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)


def markdown(card: Mapping[str, Any]) -> str:
    """Return a card as Markdown."""
    lines = [f"# {card['name']}", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in facts(card).items()]
    head = ["layer", "kind", "output", "parameters", "MACs", "sees", "holds", "keeps"]
    head += ["time"] if card["timed"] else []
    lines += ["", f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
    for row in folded(card["layers"]):
        cells = [
            f"`{row['name'] or '(net)'}`",
            title_of(row),
            format_shape(row["shape"]),
            format_integer(row["params"]),
        ]
        cells += [format_integer(row["macs"]), format_sees(row), format_bytes(row["memory"]), format_bytes(row["kept"])]
        cells += [format_share(row["share"])] if card["timed"] else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", legend(card), "", *(f"- {note}" for note in card["notes"])]) + "\n"


def write_markdown(card: Mapping[str, Any], folder: Path) -> None:
    """Write a card as Markdown."""
    write_whole(folder / MARKDOWN, markdown(card))


def comparison_cells(row: dict[str, Any]) -> dict[str, str]:
    """Return the cells of a net in the comparison, under the titles of their columns."""
    totals, speeds = row["totals"], row["totals"]["latency_ms"]
    return {
        "model": row["name"],
        "input": format_shape(row["input_shape"]),
        "params": format_integer(totals["params"]),
        "MACs": format_count(totals["macs"]),
        "sees": format_sees(row),
        "weights": format_bytes(totals["weights_bytes"]),
        "holds": format_bytes(totals["inference_bytes"]),
        "keeps": format_bytes(totals["training_bytes"]),
        "batch": str(row["batch_size"]),
        "fp32": "–" if speeds["fp32"] is None else format_milliseconds(speeds["fp32"]),
        "bf16": "–" if speeds["bf16"] is None else format_milliseconds(speeds["bf16"]),
    }


def print_comparison(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Print the totals of several nets as a table."""
    console = make_console()
    cells = [comparison_cells(row) for row in rows]
    names = fitting(cells, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for one in cells:
        table.add_row(*(escape(one[name]) for name in names))
    console.print(table, highlight=False)
    console.print(f"cards: {folder}/cards.html, .md, .json", markup=False, highlight=False, soft_wrap=True)


def fitting(cells: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Return the columns that fit into a width: empty columns are dropped, then the least important ones."""
    widths = {name: max(len(name), *(len(one[name]) for one in cells)) for name in cells[0]}
    names = [name for name in widths if any(one[name] != "–" for one in cells)]
    for name in ("weights", "batch", "input", "bf16", "holds", "sees", "keeps", "fp32"):
        if sum(widths[one] + 2 for one in names) > width and name in names:
            names.remove(name)
    return names


def write_comparison_text(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the totals of several nets as a Markdown table."""
    cells = [comparison_cells(row) for row in rows]
    lines = [list(cells[0]), ["---", *["---:"] * (len(cells[0]) - 1)], *(list(one.values()) for one in cells)]
    write_whole(path, "".join(f"| {' | '.join(line)} |\n" for line in lines))
