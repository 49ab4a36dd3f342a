"""Forecasts of a predictor: from the last steps of a longer series, in the units of the data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.predictor import Predictor, check_card, fields_of, report_rows

UNITS = {"columns": ["load", "price"], "mean": [100.0, 5.0], "std": [10.0, 0.5]}
CARD: dict[str, Any] = {"input": "series", "length": 3, "features": 2, "crop": "last", **UNITS}
CARD |= {"outputs": {"forecast": {"kind": "vector", **UNITS}}}
DAYS = "day,price,load\n2024-01-01,n/a,\n2024-01-02,4,90\n2024-01-03,5,100\n2024-01-04,6,120\n"


def repeats_the_last(inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Forecast the last step twice, still normalised."""
    return {"forecast": np.repeat(inputs[:, -1:], 2, axis=1)}


def write(folder: Path, text: str = DAYS.replace("n/a,", "1,80")) -> Path:
    path = folder / "days.csv"
    path.write_text(text)
    return path


def predicted(path: Path, card: dict[str, Any] = CARD, **options: Any) -> dict[str, Any]:
    (row,) = Predictor(card, repeats_the_last).predict([path], **options)
    return row


def test_the_named_columns_of_the_last_steps_are_forecast_in_their_units(tmp_path: Path) -> None:
    path = write(tmp_path)
    seen = []
    predictor = Predictor(CARD, lambda inputs: seen.append(inputs) or repeats_the_last(inputs))
    (row,) = predictor.predict([path], vectors=tmp_path / "all.npz")
    np.testing.assert_allclose(seen[0], [[[-1, -2], [0, 0], [2, 2]]])  # load first, as the card says
    assert row == {"file": str(path), "forecast_load": [120, 120], "forecast_price": [6, 6]}
    arrays = np.load(tmp_path / "all.npz")
    np.testing.assert_allclose(arrays["forecast"], [[[120, 6], [120, 6]]])  # (N, steps, columns)


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        (["2024-03-03", "2024-03-02", "2024-03-01"], "row 3, column day: 2024-03-02 is not after the row before"),
        (["1", "2", "2"], "row 4, column day: 2 is not after the row before"),
        (["1", "soon", "3"], "row 3, column day is 'soon', which is neither a number nor a date"),
        (["2024-03-01", "2024-03-02T06:00+01:00", "2024-03-02T06:00"], None),
    ],
)
def test_the_rows_must_be_in_the_order_of_their_times(days: list[str], reason: str | None, tmp_path: Path) -> None:
    path = write(tmp_path, "day,load,price\n" + "".join(f"{day},100,5\n" for day in days))
    row = predicted(path, {**CARD, "time": "day"})
    assert row["forecast_load"] == [100, 100] if reason is None else reason in row["error"]
    assert "error" not in predicted(path, CARD)  # older cards have no `time`


def test_an_array_has_the_columns_in_the_order_of_the_card(tmp_path: Path) -> None:
    np.save(tmp_path / "days.npy", np.array([[0, np.nan], [90, 4], [100, 5], [120, 6]]))
    assert predicted(tmp_path / "days.npy")["forecast_load"] == [120, 120]


def test_a_single_column_is_a_list_under_the_name_of_the_output(tmp_path: Path) -> None:
    units = {"columns": ["load"], "mean": [100.0], "std": [10.0]}
    card = {**CARD, "features": 1, **units, "outputs": {"forecast": {"kind": "vector", **units}}}
    assert predicted(write(tmp_path), card)["forecast"] == [120, 120]
    unnamed = write(tmp_path, "level\n90\n100\n120.5\n")  # its only column has another name
    assert predicted(unnamed, card)["forecast"] == [120.5, 120.5]


def test_several_columns_are_told_apart_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    report_rows([predicted(path)], CARD["outputs"], str(tmp_path / "out.json"), None)
    assert capsys.readouterr().out == f"{path}  forecast_load=[120, 120]  forecast_price=[6, 6]\n"
    assert json.loads((tmp_path / "out.json").read_text())[0]["forecast_price"] == [6, 6]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DAYS, r"row 2, column load is ''"),
        (DAYS.replace("n/a,", "1,80").replace("120", "nan"), r"row 5, column load is nan"),
        ("day,price,load\n2024-01-01,1,80\n2024-01-02,4,90\n", r"it has 2 steps, but the model takes length=3"),
        ("day,price,lode\n2024-01-01,1,80\n", r"it has no column load"),
    ],
)
def test_a_series_that_cannot_be_forecast_gets_a_sentence(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        raise ValueError(predicted(write(tmp_path, text))["error"])


def test_a_series_that_is_too_long_is_refused_unless_the_card_says_which_part_is_read(tmp_path: Path) -> None:
    card = {key: value for key, value in CARD.items() if key != "crop"}
    assert "it has 4 steps, but the model takes length=3" in predicted(write(tmp_path), card)["error"]


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("columns", ["load"]),
        ("columns", "load, price"),
        ("crop", "first"),
        ("time", 3),
        *(
            ("outputs", {"forecast": {"kind": "vector", **UNITS, **wrong}})
            for wrong in ({"mean": [1.0]}, {"std": None})
        ),
        ("outputs", {"forecast": {"kind": "vector", "mean": [0.0], "std": [1.0]}}),
        ("outputs", {"forecast": {"kind": "vector", "mean": [], "std": [], "columns": []}}),
    ],
)
def test_a_card_whose_units_make_no_sense_is_refused(entry: str, value: Any) -> None:
    check_card(CARD, fields_of(CARD))
    card = {**CARD, entry: value}
    with pytest.raises(ValueError, match=rf"^{entry}=.* must be"):
        check_card(card, fields_of(card))
