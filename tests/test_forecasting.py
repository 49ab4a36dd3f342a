"""Forecast a user's series on the command line: train, test, resume, compare, export, predict; mistakes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from src.run.checkpoints import read_checkpoint
from tests.programs import run

STEPS, WINDOW, HORIZON, SEASON = 160, 14, 5, 7
COLUMNS = ("load", "price")
MODEL = ("model=sunspots_tcn_9k", "model.net.channels=8", "model.net.depth=2", "model/scheduler=none")
SIZES = (f"data.window={WINDOW}", f"data.horizon={HORIZON}", f"data.season={SEASON}", "data.features=2")
OPTIONS = (*MODEL, "data=csv_series", f"data.columns=[{','.join(COLUMNS)}]", "data.time=day", *SIZES, "trainer=cpu")


def table(steps: int = STEPS) -> list[list[str]]:
    """A header, and rows of a day, a word, and two columns with a weekly season."""
    noise = np.random.default_rng(0).standard_normal((steps, 2))
    rows = [
        [str(day), "open", f"{900 + 40 * (day % 7) + 3 * noise[day, 0]:.2f}", f"{5 + 0.1 * noise[day, 1]:.3f}"]
        for day in range(steps)
    ]
    return [["day", "note", *COLUMNS], *rows]


def write(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return path


def train(file: Path, folder: Path, *options: str) -> tuple[int, str]:
    """Train on a file; return the exit status and what is written to standard error."""
    result = run("train", *OPTIONS, f"data.file={file}", f"hydra.run.dir={folder}", *options)
    return result.returncode, result.stderr


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "days.csv", table())


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three epochs, `whole`, among the folders of other runs."""
    folder = tmp_path_factory.mktemp("runs")
    status, errors = train(file, folder / "whole", "trainer.max_epochs=3")
    assert status == 0, errors
    return folder


def test_a_run_is_measured_beside_the_naive_forecast_and_tested_again_with_the_same_result(folder: Path) -> None:
    trained = figures(folder / "whole")
    assert trained["test/mase"] > 0 and trained["test/naive_mase"] == pytest.approx(1, abs=0.5)
    result = run("eval", f"run_dir={folder}/whole", f"hydra.run.dir={folder}/eval")
    assert result.returncode == 0, result.stderr
    tested = {name: value for name, value in trained.items() if name.startswith("test/")}
    assert len(tested) == 6 and figures(folder / "eval") == pytest.approx(figures(folder / "eval") | tested)


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(file: Path, folder: Path) -> None:
    status, errors = train(file, folder / "parts", "trainer.max_epochs=1")
    assert status == 0, errors
    result = run("train", f"resume={folder}/parts", "trainer.max_epochs=3")
    assert result.returncode == 0, result.stderr
    whole, parts = (figures(folder / name) for name in ("whole", "parts"))
    assert {name: parts[name] for name in parts if "second" not in name} == {
        name: whole[name] for name in whole if "second" not in name
    }
    weights = [
        read_checkpoint(folder / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("whole", "parts")
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert {"std", "naive_mae"} <= weights[0].keys() == weights[1].keys()


def test_a_comparison_shows_the_mase(folder: Path) -> None:
    result = run("compare", f"runs={folder}/whole", f"paths.log_dir={folder}/logs")
    assert result.returncode == 0, result.stderr
    assert "test/mase" in result.stdout and f"{figures(folder / 'whole')['test/mase']:.4g}" in result.stdout


def test_a_run_and_its_export_forecast_what_follows_a_file_in_its_units(file: Path, folder: Path) -> None:
    whole, exported = folder / "whole", folder / "exported"
    options = ("formats=[onnx]", "precisions=[fp32]", "seconds=0.02", f"folder={exported}")
    result = run("export", f"run_dir={whole}", *options, f"hydra.run.dir={folder}/export")
    assert result.returncode == 0, result.stderr
    (model,) = (path.parent for path in exported.rglob("model.json"))
    found = {}
    for name, source in {"run": f"run_dir={whole}", "export": f"model={model}"}.items():
        out = folder / f"{name}.csv"
        result = run("predict", source, f"input={file}", f"out={out}", f"hydra.run.dir={folder}/predict_{name}")
        assert result.returncode == 0, result.stderr
        with out.open() as stream:
            (row,) = csv.DictReader(stream)
        assert list(row) == ["file", "forecast_load", "forecast_price"] and row["file"] == str(file)
        found[name] = [json.loads(row[f"forecast_{column}"]) for column in COLUMNS]
    loads, prices = found["run"]
    assert len(loads) == len(prices) == HORIZON
    assert all(700 < load < 1400 for load in loads) and all(4 < price < 6 for price in prices)
    np.testing.assert_allclose(found["export"], found["run"], rtol=1e-4)


def edited(row: int, column: int, cell: str) -> list[list[str]]:
    """The table with one cell replaced; row 0 is the header."""
    rows = table()
    rows[row][column] = cell
    return rows


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (table(20), (), "The series has 20 steps, of which val_size=3 and test_size=3 leave 14 for training"),
        (edited(9, 3, "nan"), (), "row 10, column price: the cell is 'nan', not a number."),
        (edited(9, 0, "3"), (), "row 10, column day: 3 is not after the row before"),
        (table(), ("data.columns=[lode,price]",), "has no column lode. Did you mean load"),
        (table(), ("data.features=1",), "The series has the columns load, price: set data.features=2 instead of 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_answered_with_one_sentence(
    rows: list[list[str]], options: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    status, errors = train(write(tmp_path / "days.csv", rows), tmp_path / "run", *options)
    assert status == 1
    (line,) = [line for line in errors.splitlines() if sentence in line]
    assert line.startswith("ERROR: ") and "Traceback" not in errors
