"""Runs on different data are ranked separately, by a metric that most of them have."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from src.report.comparisons import choose_metric, compare_by_data
from src.report.page import render
from src.report.runs import find_runs, read_run
from src.report.table import print_tables, write_csv
from src.run.scores import Score
from tests.report.conftest import MakeRun


def printed(folder: Path) -> str:
    """The terminal output for the runs below a folder."""
    runs, damaged = find_runs([str(folder)])
    console = Console(width=200, file=io.StringIO())
    print_tables(console, compare_by_data(runs), damaged)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_runs_on_different_data_are_ranked_apart(make_run: MakeRun, tmp_path: Path) -> None:
    for number, (data, acc) in enumerate((("mnist", 0.99), ("cifar10", 0.6), ("mnist", 0.98), ("cifar10", 0.7))):
        make_run(f"{number}", f"data={data}", f"model.optimizer.lr={number}", test__acc=acc)
    make_run("5", "data=mnist", "model.optimizer.lr=9", test__acc=0.97)
    comparisons = compare_by_data(find_runs([str(tmp_path)]).runs)
    assert [one.data for one in comparisons] == ["mnist", "cifar10"]
    assert [[each.label for each in one.configurations] for one in comparisons] == [
        ["lr=0", "lr=2", "lr=9"],
        ["lr=3", "lr=1"],
    ]
    assert comparisons[1].data_label(comparisons[1].configurations[0]) == "cifar10: lr=3"
    text = printed(tmp_path)
    assert text.index("mnist") < text.index("lr=0") < text.index("lr=9") < text.index("cifar10") < text.index("lr=3")
    assert (
        text.count("the best run: python src/train.py") == 2 and "the best run: python src/train.py data=mnist" in text
    )
    page = render(comparisons, [])
    assert page.count('class="comparison"') == 2 and page.count("Best by") == 2 and "2 comparisons" in page


@pytest.mark.parametrize(
    ("overrides", "record", "apart"),
    [
        ([], {}, False),
        (["data.num_classes=20"], {}, True),
        (["data.image_size=64"], {}, True),
        (["data.batch_size=64"], {}, False),
        ([], {"data": {"test": "b" * 64}}, True),
        ([], {"data": {"test": "a" * 64}}, False),
    ],
)
def test_what_makes_another_task_of_the_same_data(
    overrides: list[str], record: dict[str, object], apart: bool, make_run: MakeRun, tmp_path: Path
) -> None:
    for name, own, more in (("a", [], {"data": {"test": "a" * 64}}), ("b", overrides, record)):
        folder = make_run(name, *own, test__acc=0.5)
        content = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**content, **more}))
    comparisons = compare_by_data(find_runs([str(tmp_path)]).runs)
    assert len(comparisons) == 1 + apart and len({one.data for one in comparisons}) == len(comparisons)


def test_a_job_that_has_not_begun_stands_with_the_others_of_its_sweep(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("sweep/0", "data=cifar10", status="finished", test__acc=0.5)
    make_run("other/0", "data=mnist", status="finished", test__acc=0.5)
    for sweep in ("sweep", "alone"):
        folder = tmp_path / "runs" / sweep / "1"
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps({"overrides": ["model.optimizer.lr=1"]}))
    found = {one.data: len(one.runs) for one in compare_by_data(find_runs([str(tmp_path)]).runs)}
    assert found == {"cifar10": 2, "mnist": 1, "unknown data": 1}


@pytest.mark.parametrize(
    ("metrics", "chosen", "note"),
    [
        ([{"test/acc": 1, "val/acc_best": 1, "val/acc": 1}], "test/acc", None),
        ([{"val/acc": 1}], "val/acc", "Ranked by val/acc, which 1 of 1 finished runs have; 0 have test/acc."),
        (
            [{"test/acc": 1, "val/acc": 1}, {"val/acc": 1, "val/acc_best": 1}, {"val/acc_best": 1, "val/acc": 1}, {}],
            "val/acc",
            "Ranked by val/acc, which 3 of 4 finished runs have; 1 have test/acc.",
        ),
        ([{"val/mae_best": 1, "test/mae": 1, "val/mae": 1}], "test/mae", None),
        ([{"val/loss_best": 1, "val/loss": 1, "test/loss": 1, "test/acc": 1}], "test/acc", None),
        ([], "test/acc", None),
    ],
)
def test_the_metric_that_most_finished_runs_have(
    metrics: list[dict[str, float]], chosen: str, note: str | None, make_run: MakeRun
) -> None:
    runs = [
        read_run(make_run(str(number), **{name.replace("/", "__"): value for name, value in one.items()}, params=1.0))
        for number, one in enumerate(metrics)
    ]
    runs.append(read_run(make_run("x", status="failed", test__acc=0.1)))  # not finished: does not count
    assert choose_metric(runs, Score("acc", "max")) == (chosen, note)
    with pytest.raises(ValueError, match="metric=test/f1 is not a metric of these runs; they have "):
        compare_by_data(runs, "test/f1")


def test_a_task_is_ranked_by_its_own_score_in_its_direction(make_run: MakeRun, tmp_path: Path) -> None:
    for number, mse in enumerate((0.03, 0.0123456, 0.02)):
        metrics = {"test__mse": mse, "val__mse_best": 1 - mse, "test__acc": 0.5}
        make_run(str(number), f"model.optimizer.lr={number}", score=("mse", "min"), **metrics)
    (one,) = compare_by_data(find_runs([str(tmp_path)]).runs)
    assert (one.metric, one.minimised) == ("test/mse", True)
    assert [each.label for each in one.configurations] == ["lr=1", "lr=2", "lr=0"]
    assert one.best_run is not None and one.best_run.folder.name == "1"
    page = render([one], [])
    assert "<strong>lr=1</strong>" in page and "which reached 0.01235" in page
    assert "0.01235" in printed(tmp_path)
    (most,) = compare_by_data(find_runs([str(tmp_path)]).runs, mode="max")
    assert most.best_run is not None and most.best_run.folder.name == "0"


def test_the_score_is_that_of_the_validation_where_no_run_was_tested(make_run: MakeRun) -> None:
    for number, names in enumerate((("val__mse", "val__mse_best"), ("val__mse",))):
        run = read_run(make_run(str(number), score=("mse", "min"), **dict.fromkeys(names, 0.5)))
        assert choose_metric([run], run.score)[0] == names[-1].replace("__", "/")


def test_tasks_on_the_same_data_are_ranked_apart(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("0", "model.optimizer.lr=1", score=("mse", "min"), val__mse=0.5, val__loss=0.5)
    make_run("1", "model.optimizer.lr=2", score=("mse", "min"), val__mse=0.1, val__loss=0.1)
    make_run("2", "model.optimizer.lr=3", score=("acc", "max"), val__acc=0.9, val__loss=0.2)
    make_run("3", val__acc=0.95, val__loss=0.3)  # from before tasks named their score
    make_run("4", "model.optimizer.lr=4", val__acc=0.8, val__loss=0.4)
    comparisons = compare_by_data(find_runs([str(tmp_path)]).runs)
    ranked = {one.data: [run.folder.name for run in one.runs] for one in comparisons}
    assert ranked == {"mnist by acc": ["3", "2", "4"], "mnist by mse": ["1", "0"]}
    assert comparisons[1].data_label(comparisons[1].configurations[0]) == "mnist by mse: lr=2"
    page = render(comparisons, [])
    assert page.count("Best by") == 2 and "2 comparisons" in page and "by val/acc, val/mse</title>" in page
    by_loss = compare_by_data(find_runs([str(tmp_path)]).runs, "val/loss")
    assert [one.configurations[0].mean("val/loss") for one in by_loss] == [0.2, 0.1]


def test_a_job_that_has_not_begun_has_the_score_of_the_others_of_its_sweep(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("sweep/0", "data=mnist", status="finished", score=("mse", "min"), val__mse=0.5)
    make_run("other/0", "data=mnist", status="finished", val__acc=0.5)
    folder = tmp_path / "runs" / "sweep" / "1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"overrides": ["data=mnist", "model.optimizer.lr=1"]}))
    found = {one.data: len(one.runs) for one in compare_by_data(find_runs([str(tmp_path)]).runs)}
    assert found == {"mnist by mse": 2, "mnist by acc": 1}


def test_an_unknown_mode_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", test__acc=0.5)
    with pytest.raises(ValueError, match="mode=up must be one of min, max, null"):
        compare_by_data(find_runs([str(tmp_path)]).runs, mode="up")


def test_the_note_on_the_metric_is_one_line(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", val__acc=0.5)
    sentence = "Ranked by val/acc, which 1 of 1 finished runs have; 0 have test/acc."
    assert sentence in printed(tmp_path).splitlines()
    assert sentence in render(compare_by_data(find_runs([str(tmp_path)]).runs), [])


def test_the_best_run_is_the_best_of_the_best_configuration(make_run: MakeRun, tmp_path: Path) -> None:
    for name, lr, seed, loss in (("a", 1, 1, 0.2), ("b", 1, 2, 0.1), ("c", 2, 1, 0.05), ("d", 2, 2, 0.9)):
        make_run(name, f"model.optimizer.lr={lr}", seed=seed, test__loss=loss)
    (one,) = compare_by_data(find_runs([str(tmp_path)]).runs, "test/loss")
    assert one.best_run is not None and one.best_run.folder.name == "b"
    head = render([one], []).partition("<main>")[0]
    assert "python src/train.py model.optimizer.lr=1 seed=2" in head and "which reached 0.1000" in head


def test_columns_are_unique_and_epochs_are_those_of_the_metrics(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", status="finished", test__acc=0.5, epochs=10, best_epoch=9, macs=5e6)  # its status says 2
    make_run("b", "model.optimizer.lr=1", status="interrupted")
    make_run("c", "model.optimizer.lr=2", status="finished", seed=0, val__acc=0.5, folder=1.0)
    comparisons = compare_by_data(find_runs([str(tmp_path)]).runs)
    write_csv(tmp_path / "rows.csv", comparisons)
    header, *rows = csv.reader((tmp_path / "rows.csv").read_text().splitlines())
    assert len(set(header)) == len(header)
    assert [dict(zip(header, row, strict=True))["epochs"] for row in rows] == ["10", "2", "2"]
    assert [dict(zip(header, row, strict=True))["best_epoch"] for row in rows] == ["9.0", "", ""]
    page = render(comparisons, [])
    assert "10 epochs, the best was 9<" in page and "2 epochs<" in page and ">5M<" in page
    assert "5M" in printed(tmp_path)


def test_terminals_get_nothing_that_they_would_obey(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("good", "model.net.a=\x1b[31mred", choices={"model": "\ud800"}, test__acc=0.5)
    make_run("also", "model.net.a=[b]", test__acc=0.4)
    damaged = make_run("bad\x1b[2J\nname", test__acc=0.5)
    (damaged / "run.json").write_text("[]")
    text = printed(tmp_path)
    assert "\x1b" not in text and "\ud800" not in text and "a=[b]" in text
    (line,) = [line for line in text.splitlines() if line.startswith("left out: ")]
    assert "bad?[2J?name/run.json is damaged: it is a list, not a mapping." in line


def test_a_long_table_is_cut_in_the_terminal_and_folded_on_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    for number in range(60):
        make_run(str(number), f"model.optimizer.lr={number}", test__acc=number / 100)
    text = printed(tmp_path)
    assert "lr=59" in text and "lr=20" in text and "lr=19" not in text and "… and 20 more configurations" in text
    page = render(compare_by_data(find_runs([str(tmp_path)]).runs), [])
    assert (
        page.count('class="more"') == 10 == page.count('class="run group more"')
        and "show all 60 configurations" in page
    )


def test_tasks_of_one_score_on_the_same_data_are_ranked_apart(make_run: MakeRun, tmp_path: Path) -> None:
    for number, task in enumerate(("Mirrored", "Mirrored", None)):  # None: a run from before tasks were recorded
        make_run(str(number), task=task, test__acc=0.5)
    comparisons = compare_by_data(find_runs([str(tmp_path)]).runs)
    titles = [(one.data, len(one.runs)) for one in comparisons]
    assert titles == [("mnist for Mirrored", 2), ("mnist for Classifier", 1)]
