"""Series from CSV files: a row of names, then a row for each step."""

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from src.data.series import SeriesDataModule
from src.predictor import first_disorder
from src.system.wording import suggest


class CSVSeriesDataModule(SeriesDataModule):
    """Serve windows of columns of a CSV file, whose first row names them.

    Args:
        file: the CSV file, with commas between cells, in UTF-8.
        columns: names of the columns that are both inputs and targets; None: all columns that begin with a number.
        time: the column of the times of the steps, which must increase: numbers, or dates such as 2024-05-31. It is not
            forecast. None: no such column.
        options: see `SeriesDataModule`.
    """

    def __init__(
        self, file: str, *, columns: Sequence[str] | None = None, time: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.file, self.chosen, self.time = Path(file), columns, time

    def load(self) -> tuple[Tensor, list[str]]:
        """Read the chosen columns; see `read_series`."""
        return read_series(self.file, self.chosen, self.time)

    def input_card(self) -> dict[str, Any]:
        """Describe the series, and its `time` column, whose order the predictor checks."""
        return {**super().input_card(), **({"time": self.time} if self.time else {})}


class Row(NamedTuple):
    """A non-empty row of a CSV file."""

    number: int  # number of its last line in the file, from 1
    cells: list[str]


def read_series(file: Path, columns: Sequence[str] | None, time: str | None) -> tuple[Tensor, list[str]]:
    """Read columns of a CSV file, float64 (N, F), and their names.

    Args:
        file: see `CSVSeriesDataModule`.
        columns: see `CSVSeriesDataModule`.
        time: see `CSVSeriesDataModule`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty or lacks a column, a cell is not a number, or times do not increase.
    """
    names, rows = read_table(file)
    unknown = [name for name in [*(columns or ()), *([time] if time else [])] if name not in names]
    if unknown:
        raise ValueError(f"{file} has no column {unknown[0]}.{suggest(unknown[0], names)}")
    if time is not None:
        check_times(file, time, [Row(row.number, [row.cells[names.index(time)]]) for row in rows])
    if columns is None:
        columns = [name for name, text in zip(names, rows[0].cells, strict=True) if name != time and is_number(text)]
    if not columns:
        raise ValueError(f"{file} has no column that begins with a number: there is nothing to forecast.")
    positions = [names.index(name) for name in columns]
    for row in rows:
        for name, position in zip(columns, positions, strict=True):
            if not is_number(row.cells[position]):
                cell = repr(row.cells[position][:40]) if row.cells[position].strip() else "empty"
                raise ValueError(f"{file}, row {row.number}, column {name}: the cell is {cell}, not a number.")
    values = [[float(row.cells[position]) for position in positions] for row in rows]
    return torch.tensor(values, dtype=torch.float64), list(columns)


def read_table(file: Path) -> tuple[list[str], list[Row]]:
    """Read the names of a CSV file's columns, and its other rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no rows, rows of different lengths or no names, or is not UTF-8 text.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}: name a CSV file.")
    with file.open(encoding="utf-8-sig", newline="") as stream, readable(file):
        reader = csv.reader(stream)
        header, *rows = [Row(reader.line_num, cells) for cells in reader if cells] or [Row(0, [])]
    names = [name.strip() for name in header.cells]
    if not rows:
        raise ValueError(f"{file} has no rows below the names of its columns: it holds no series.")
    if len(set(names)) < len(names) or all(map(is_number, names)):
        raise ValueError(f"{file} must begin with a row of names, one for each column, but its first row is {names}.")
    for row in rows:
        if len(row.cells) != len(names):
            raise ValueError(f"{file}, row {row.number}: cells={len(row.cells)}, but columns={len(names)}.")
    return names, rows


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Raise ValueError if a file is not a CSV file in UTF-8."""
    try:
        yield
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as a CSV file in UTF-8: {error}.") from error


def is_number(text: str) -> bool:
    """Return whether a string is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check_times(file: Path, column: str, rows: Sequence[Row]) -> None:
    """Check that the times, each the only cell of its row, increase.

    Raises:
        ValueError: they do not, or one is neither a number nor a date.
    """
    fault = first_disorder((row.number, row.cells[0]) for row in rows)
    if fault is None:
        return
    number, text, is_time = fault
    where = f"{file}, row {number}, column {column}"
    if not is_time:
        raise ValueError(f"{where}: {text[:40]!r} is neither a number nor a date such as 2024-05-31.")
    raise ValueError(f"{where}: {text} is not after the row before: sort the rows by time, without duplicates.")
