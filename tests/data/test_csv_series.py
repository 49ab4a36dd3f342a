"""Series from CSV files: which columns are read, and which errors name their row and column."""

from pathlib import Path
from typing import Any

import pytest
import torch

from src.data.csv_series import CSVSeriesDataModule, read_series

GOOD = "day,load,price,note\n2024-01-01,1,2.5,a\n2024-01-02,3,4.5,b\n\n2024-01-03,-1e3,6,c\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "series.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_all_columns_that_begin_with_a_number_are_read_but_for_the_time(tmp_path: Path) -> None:
    values, names = read_series(write(tmp_path, GOOD), None, "day")
    assert names == ["load", "price"] and values.dtype == torch.float64
    assert values.tolist() == [[1, 2.5], [3, 4.5], [-1000, 6]]
    years = write(tmp_path, "year, load\n1999,1\n2000,2\n")
    assert read_series(years, None, None)[1] == ["year", "load"]
    assert read_series(years, None, "year")[1] == ["load"]


def test_chosen_columns_come_in_their_order(tmp_path: Path) -> None:
    values, names = read_series(write(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n")), ["price", "load"], None)
    assert names == ["price", "load"] and values[0].tolist() == [2.5, 1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no series"),
        ("a,b\n", "holds no series"),
        ("a,b\n1,2\n3,nan\n", "row 3, column b: the cell is 'nan', not a number"),
        ("a,b\n1,2\n3,\n", "row 3, column b: the cell is empty, not a number"),
        ("a,b\n1,2\n\n3,4\nx1,6\n", "row 5, column a: the cell is 'x1', not a number"),
        ("a,b\n1,2\n1,inf\n", "row 3, column b: the cell is 'inf'"),
        ("a,b\n1,2\n3\n", "row 3: cells=1, but columns=2"),
        ("a,a\n1,2\n", "must begin with a row of names"),
        ("1,2\n3,4\n", "must begin with a row of names"),
        ("a;b\n1;2\n", "no column that begins with a number"),
        (b"a,b\n1,\xff\n", "cannot be read as a CSV file in UTF-8"),
    ],
)
def test_a_file_that_is_no_series_is_refused_in_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=sentence) as error:
        read_series(path, None, None)
    assert str(path) in str(error.value) and len(str(error.value).splitlines()) == 1


def test_text_in_a_column_is_refused_only_where_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with pytest.raises(ValueError, match="row 2, column note: the cell is 'a', not a number"):
        read_series(path, ["load", "note"], None)


@pytest.mark.parametrize(("columns", "time"), [(["lod"], None), (None, "lod"), (["load", "lod"], "day")])
def test_an_unknown_column_is_named_with_the_nearest(tmp_path: Path, columns: list[str] | None, time: Any) -> None:
    with pytest.raises(ValueError, match=r"has no column lod\. Did you mean load"):
        read_series(write(tmp_path, GOOD), columns, time)


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        (["1", "2", "2"], "row 4, column t: 2 is not after the row before"),
        (["9", "10", "8"], "row 4, column t: 8 is not after"),
        (["2024-01-09", "2024-01-10", "2024-01-01"], "row 4, column t: 2024-01-01 is not after"),
        (["2024-01-09", "soon", "2024-01-11"], "row 3, column t: 'soon' is neither a number nor a date"),
    ],
)
def test_times_must_increase(tmp_path: Path, times: list[str], sentence: str) -> None:
    path = write(tmp_path, "t,x\n" + "".join(f"{time},1\n" for time in times))
    with pytest.raises(ValueError, match=sentence):
        read_series(path, None, "t")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.csv"):
        read_series(tmp_path / "none.csv", None, None)


def test_a_file_is_served_in_windows(tmp_path: Path) -> None:
    rows = "".join(f"{day},{day % 7 + day / 10},{day * day}\n" for day in range(50))
    sizes: dict[str, Any] = {"window": 8, "horizon": 2, "season": 7, "val_size": 0.1, "test_size": 0.2, "batch_size": 4}
    path = write(tmp_path, f"day,load,price\n{rows}")
    data = CSVSeriesDataModule(str(path), columns=["load"], time="day", features=1, **sizes)
    data.setup()
    assert data.input_card()["columns"] == ["load"]
    assert [len(split) for split in data.splits().values()] == [35 - 9, 5 - 1, 10 - 1]
