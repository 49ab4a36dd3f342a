"""The tables of README.md that benchmarks write."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def write_table(name: str, rows: list[list[str]]) -> None:
    """Put a table, whose first rows are its head, between the README's markers of that name, and print it.

    Raises:
        ValueError: the README has no such markers.
    """
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    print(table)
    pattern = re.compile(rf"(<!-- {name}: written by .*? -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    text, count = pattern.subn(lambda match: match[1] + table + match[2], README.read_text())
    if count != 1:
        raise ValueError(f"{README} has no place for the table {name}.")
    README.write_text(text)
