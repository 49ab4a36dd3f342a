"""`format=json`: a single JSON object on standard output, and nothing else."""

import json
from pathlib import Path

import pytest

from src.cli.output import plain_value, printed_as
from tests.programs import run

WORDS = ["data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=64", "data.val_size=16"]
WORDS += [
    "data.test_size=16",
    "data.batch_size=16",
    "model=mnist_sdn_8k",
    "trainer.max_epochs=1",
    "trainer=cpu",
    "logger=none",
]


def test_training_testing_and_comparing_print_json(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    trained = run("train", *WORDS, "format=json", "extras.print_config=true", f"hydra.run.dir={folder}")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert trained.stdout.count("\n") == 1 and "run directory" in trained.stderr
    assert result["metrics"] == pytest.approx(json.loads((folder / "metrics.json").read_text()))
    assert (result["run_dir"], result["score"], result["mode"]) == (str(folder), "acc", "max")

    tested = run("eval", f"run_dir={folder}", "format=json", "logger=none", f"hydra.run.dir={tmp_path}/test")
    assert tested.returncode == 0, tested.stderr
    assert json.loads(tested.stdout)["metrics"]["test/acc"] == result["metrics"]["test/acc"]

    compared = run("compare", f"runs=[{folder}]", "format=json", f"hydra.run.dir={tmp_path}/compared")
    assert compared.returncode == 0, compared.stderr
    result = json.loads(compared.stdout)
    (row,), (comparison,) = result["runs"], result["comparisons"]
    assert row["folder"] == comparison["best_run"] == str(folder) and row["error"] is None
    assert comparison["configurations"] == [{"label": "mnist_sdn_8k", "runs": 1, "mean": row["test/acc"], "std": None}]
    assert Path(result["page"]).is_file() and Path(result["csv"]).is_file() and result["damaged"] == []

    resumed = run("train", f"resume={folder}", "trainer.max_epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    assert "run directory" in resumed.stdout  # the output format is not part of the run
    assert "format" not in json.loads((folder / "run.json").read_text())["resumed"][0]["changed"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["format=xml"], "format=xml must be one of table, json."),
        (["-m", "seed=1,2", "format=json"], "format=json is for one run"),
        (["format=json", "trainer.accelerator=tpux"], "There is no trainer.accelerator=tpux"),
    ],
    ids=["form", "sweep", "failure"],
)
def test_a_program_that_fails_prints_no_object(words: list[str], sentence: str, tmp_path: Path) -> None:
    result = run("train", *words, *WORDS, f"hydra.run.dir={tmp_path}/run", f"hydra.sweep.dir={tmp_path}/sweep")
    assert result.returncode != 0 and sentence in result.stderr and "{" not in result.stdout


def test_what_json_does_not_know_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    with printed_as("json") as result:
        print("a table")  # noqa: T201
        result |= {"metrics": {"loss": float("nan"), "acc": 0.5}, "folder": Path("a")}
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"metrics": {"loss": None, "acc": 0.5}, "folder": "a"}
    assert captured.err == "a table\n"
    with printed_as("table") as result:
        result["a"] = 1
    assert capsys.readouterr().out == ""


def test_tensors_are_numbers() -> None:
    import torch

    assert plain_value(torch.tensor(0.5)) == 0.5 and plain_value(torch.tensor(float("inf"))) is None
