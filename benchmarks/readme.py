"""The tables of README.md and docs/ that benchmarks write."""

import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def format_table(rows: Iterable[list[str]]) -> str:
    """Return a table, whose first rows are its head, in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_table(name: str, rows: list[list[str]], note: str = "") -> None:
    """Put a table, whose first rows are its head, and a note between the markers of that name, and print them.

    Raises:
        ValueError: not just one file has such markers.
    """
    table = format_table(rows) + (f"\n\n{note}" if note else "")
    print(table)
    pattern = re.compile(rf"(<!-- {name}: written by .*? -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    found = [path for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if pattern.search(path.read_text())]
    if len(found) != 1:
        raise ValueError(f"README.md and docs/ have {len(found)} places for the table {name}, not one.")
    text = pattern.sub(lambda match: match[1] + table + match[2], found[0].read_text())
    found[0].write_text(text)
