"""The page apart from charts and tables: warnings about comparability, and commands for runs."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from src.report.charts import DISTINCT
from src.report.comparisons import compare_by_data
from src.report.confusions import MAX_MISTAKES
from src.report.curves import read_curves
from src.report.page import MAX_TEST_REPORTS, further_commands, machines, render
from src.report.runs import find_runs, read_run
from src.run.rerun import expand
from tests.report.conftest import MakeRun

RECORD = {"cpu": "A", "threads": 1, "git_commit": "1" * 40, "packages": {"torch": "2.9"}}
RECORD |= {"choices": {"data": "mnist"}, "data": {"test": "abc"}}


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({}, None),
        ({"cpu": "B"}, "times are not comparable"),
        ({"threads": 2}, "times are not comparable"),
        ({"packages": {"torch": "2.10"}}, "times are not comparable"),
        ({"git_commit": "2" * 40}, "the code may differ"),
        ({"choices": {"data": "cifar10"}}, "different images"),
        ({"data": {"test": "def"}}, "different images"),
    ],
)
def test_what_cannot_be_compared_has_a_warning(
    change: dict[str, Any], warning: str | None, make_run: MakeRun, tmp_path: Path
) -> None:
    for name, record in {"a": RECORD, "b": {**RECORD, **change}}.items():
        (make_run(name, test__acc=0.5) / "run.json").write_text(json.dumps(record))
    runs = find_runs([str(tmp_path)]).runs
    warnings = [text for _, values, text in machines(runs) if len(values) > 1]
    page = render(compare_by_data(runs), [])
    assert len(warnings) == (warning is not None) == page.count('class="warning"')
    assert warning is None or (warning in warnings[0] and warning in page)


def test_the_commands_of_a_run_are_understood(make_run: MakeRun, tmp_path: Path) -> None:
    run = read_run(make_run("a 'b' $c", "model=simple_mlp", status="interrupted"))
    commands = dict(further_commands(run)).values()
    for command, word in zip(commands, ("resume", "reproduce"), strict=True):
        words = shlex.split(command)
        assert words[:2] == ["python", "src/train.py"] and words[2] == f"{word}={run.folder}"
        assert "model=simple_mlp" in expand(words[2:])
    finished = read_run(make_run("finished", status="finished"))
    assert [command.split()[-1].partition("=")[0] for _, command in further_commands(finished)] == ["reproduce"]


def test_a_job_that_has_never_started_has_nothing_to_reproduce(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"overrides": ["model=simple_mlp"]}))
    assert further_commands(read_run(tmp_path)) == []


def test_of_many_runs_few_are_drawn_and_pictured(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = {"classes": ["a", "b"], "counts": [[1, 0], [0, 1]]}
    head["mistakes"] = [{"label": "a", "predicted": "b", "confidence": 0.5, "png": "x" * 20_000}] * MAX_MISTAKES
    for number in range(300):
        folder = make_run(str(number), f"model.optimizer.lr={number}", test__acc=number / 1000)
        (folder / "test_report.json").write_text(json.dumps({"heads": {"test": head}}))
        (folder / "csv").mkdir()
        (folder / "csv" / "metrics.csv").write_text("epoch,val/acc\n0,0.5\n1,0.6\n")
    drawn: list[Path] = []

    def record(folder: Path, names: Sequence[str]) -> Any:
        drawn.append(folder)
        return read_curves(folder, names)

    monkeypatch.setattr("src.report.page.read_curves", record)
    page = render(compare_by_data(find_runs([str(tmp_path)]).runs), [])
    assert [folder.name for folder in drawn] == [str(number) for number in range(299, 299 - DISTINCT, -1)]
    assert page.count('<table class="matrix">') == MAX_TEST_REPORTS == 12
    assert page.count("Confusions and mistakes are shown for the best runs only.") == 300 - MAX_TEST_REPORTS
    assert page.count("x" * 20_000) <= 3_000_000 // 20_000 and len(page) < 4_000_000


def test_the_curves_are_those_of_the_losses_and_the_score(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("a", score=("mse", "min"), test__mse=0.5)
    (folder / "csv").mkdir()
    (folder / "csv" / "metrics.csv").write_text("epoch,val/acc,val/mse,val/loss\n0,0.5,0.2,0.1\n1,0.6,0.1,0.1\n")
    page = render(compare_by_data(find_runs([str(tmp_path)]).runs), [])
    assert "val/mse by epoch" in page and "val/loss by epoch" in page and "val/acc" not in page


CLASSES = {"classes": ["a", "b"], "counts": [[1, 2], [3, 4]]}
MISTAKE = {"label": "a", "predicted": "b", "confidence": 0.5, "png": "aGk="}
PANELS = {"panels": ["input", "output"], "mistakes": [{"mse": 0.1, "caption": "mse 0.1000", "png": "aGk="}]}


@pytest.mark.parametrize(
    ("head", "shown", "absent"),
    [
        (PANELS, ["Each picture: input | output.", "<span>mse 0.1000</span>"], ["<h4>Confusions", "empty or damaged"]),
        ({**CLASSES, "mistakes": [MISTAKE]}, ["<h4>Confusions</h4>", "<span>a, not\nb 50%</span>"], ["Each picture"]),
        (
            {**CLASSES, "panels": ["input"], "mistakes": [{**MISTAKE, "caption": "a, not b"}]},
            ["<h4>Confusions</h4>", "<span>a, not b</span>"],
            ["Each picture"],
        ),
        ({**CLASSES, "mistakes": []}, ["<h4>Confusions</h4>"], ["Worst mistakes"]),
        ({"classes": ["a"], "mistakes": []}, ["empty or damaged"], ["<h4>"]),
        ({"counts": [], "mistakes": []}, ["empty or damaged"], ["<h4>"]),
        ({**PANELS, "panels": "input"}, ["empty or damaged"], ["<h4>"]),
        ({**PANELS, "panels": [1, 2]}, ["empty or damaged"], ["<h4>"]),
        ({"mistakes": [{"mse": 0.1, "png": "aGk="}]}, ["empty or damaged"], ["<h4>"]),
        ({"mistakes": [{"caption": 7, "png": "aGk="}]}, ["empty or damaged"], ["<h4>"]),
        ({"mistakes": [{"caption": "x", "png": "a" * 600_000}]}, ["empty or damaged"], ["<h4>"]),
        ({"mistakes": [{"caption": "<b>", "png": "aGk="}]}, ["<span>&lt;b&gt;</span>"], ["<b>"]),
    ],
)
def test_mistakes_are_shown_with_their_captions_and_confusions_where_there_are_classes(
    head: dict[str, Any], shown: list[str], absent: list[str], make_run: MakeRun, tmp_path: Path
) -> None:
    (make_run("a", test__acc=0.5) / "test_report.json").write_text(json.dumps({"heads": {"test": head}}))
    page = render(compare_by_data(find_runs([str(tmp_path)]).runs), [])
    assert all(text in page for text in shown) and not any(text in page for text in absent)
