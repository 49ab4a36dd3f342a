"""Write benchmark tables into README.md and docs/."""

import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def format_table(rows: Iterable[list[str]]) -> str:
    """Return a table in Markdown; its first rows are the header."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_table(name: str, rows: list[list[str]], note: str = "") -> None:
    """Write a table, whose first rows are the header, and a note between the markers of that name, and print them.

    Raises:
        ValueError: no file or several have such markers.
    """
    table = format_table(rows) + (f"\n\n{note}" if note else "")
    print(table)
    pattern = re.compile(rf"(<!-- {name}: written by .*? -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    pages = [path for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if pattern.search(path.read_text())]
    if len(pages) != 1:
        raise ValueError(f"README.md and docs/ have {len(pages)} places for the table {name}, not one.")
    text = pattern.sub(lambda match: match[1] + table + match[2], pages[0].read_text())
    pages[0].write_text(text)
