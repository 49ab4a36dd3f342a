"""Runs are found once, and read as far as possible."""

import json
from pathlib import Path

import pytest
from markupsafe import escape

from src.report.comparisons import compare_by_data
from src.report.page import render
from src.report.runs import find_runs, read_benchmarks, read_run
from src.report.studies import study_reports
from src.system.locks import locked
from tests.report.conftest import MakeRun


def test_runs_are_found_below_folders_in_order_and_once(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("sweep/10", "sweep/2", "other"):
        make_run(name, test__acc=0.5)
    folders = [str(tmp_path / "runs"), str(tmp_path / "runs" / "sweep" / "2"), str(tmp_path / "runs" / "." / "other")]
    assert [run.folder.name for run in find_runs(folders).runs] == ["other", "2", "10"]


def test_runs_that_look_for_faults_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("real", test__acc=0.5)
    make_run("fault", choices={"debug": "limit"}, test__acc=0.1)
    assert [run.folder.name for run in find_runs([str(tmp_path)]).runs] == ["real"]


def test_tests_of_a_run_do_not_compete_with_it(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("eval", "run_dir=x", test__acc=0.9)
    (folder / "run.json").write_text(json.dumps({"command": "src/eval.py run_dir=x"}))
    with pytest.raises(ValueError, match=r"except for tests and runs with debug=…, which are not compared"):
        find_runs([str(tmp_path)])
    make_run("train", test__acc=0.5)
    assert [run.folder.name for run in find_runs([str(tmp_path)]).runs] == ["train"]


def test_missing_folders_and_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="runs: nowhere is not a folder"):
        find_runs(["nowhere"])
    with pytest.raises(ValueError, match=r"There is no run in [^ ]+: python src/train.py creates one"):
        find_runs([str(tmp_path)])
    with pytest.raises(ValueError, match="runs names no folder"):
        find_runs([])
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_runs([str(tmp_path / "file")])


def test_the_settings_of_a_run(make_run: MakeRun) -> None:
    args = ["model=simple_mlp", "model.optimizer.lr=0.1", "sweep=x", "tags=[a]", "paths.log_dir=/x", "+model.net.d=1"]
    run = read_run(make_run("a", *args, seed=7, test__acc=0.5))
    values = {"model.optimizer.lr": "0.1", "model.net.d": "1"}
    assert run.settings == {"model": "simple_mlp", "recipe": "plain", "data": "mnist", **values}
    assert (run.seed, run.status, run.metrics) == (7, "finished", {"test/acc": 0.5})


def test_the_status_of_a_run(make_run: MakeRun) -> None:
    for status in ("finished", "failed", "pruned", "interrupted", "pending"):
        assert read_run(make_run(status, status=status)).status == status
    lost, alone, failed = make_run("lost", status="running"), make_run("alone"), make_run("traced")
    (failed / "traceback.txt").write_text("Traceback\n  File x\nValueError: what was wrong\n")
    assert read_run(failed).error == "ValueError: what was wrong" and read_run(alone).error is None
    assert [read_run(folder).status for folder in (lost, alone, failed)] == ["interrupted", "interrupted", "failed"]
    with locked(alone):
        assert read_run(alone).status == "running"


# well formed, but every value has the wrong type
WRONG_TYPES = (
    b'{"choices": [1], "packages": "x", "seed": {"a": 1}, "study": "x", "heads": [1], "test/acc": true, "command": [7]}'
)
FILES = ["metrics.json", "run.json", "status.json", "job.json", ".hydra/overrides.yaml"]
HARMLESS = {("metrics.json", WRONG_TYPES), ("status.json", WRONG_TYPES)}  # none of the keys read from these files


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"null", b'"x"', WRONG_TYPES])
def test_a_damaged_run_is_named_and_left_out(name: str, content: bytes, make_run: MakeRun, tmp_path: Path) -> None:
    make_run("good", status="finished", test__acc=0.4)
    folder = make_run("wrong", "model=simple_mlp", status="finished", test__acc=0.5)
    (folder / name).write_bytes(content)
    runs, damaged = find_runs([str(tmp_path)])
    if (name, content) in HARMLESS:
        assert damaged == [] and (runs[1].status, runs[1].metrics) in [("finished", {}), ("pending", {"test/acc": 0.5})]
        return
    assert [run.folder.name for run in runs] == ["good"]
    assert len(damaged) == 1 and damaged[0].startswith(f"{folder / name} is damaged: ") and "\n" not in damaged[0]
    page = render(compare_by_data(runs), study_reports(runs), damaged)
    assert "<title>1 configuration by" in page and str(escape(damaged[0])) in page


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("status.json", {"status": ["finished"]}, "status is a list, not text"),
        ("status.json", {"status": "done"}, "status must be one of pending, running, finished"),
        ("status.json", {"status": "finished", "epoch": "2"}, "epoch is text, not an integer"),
        ("status.json", {"status": "finished", "error": {}}, "error is a mapping, not text"),
        ("run.json", {"seed": 10**400}, "an integer of more than 20 digits"),
        ("run.json", {"seed": True}, "seed is true or false, not an integer"),
        ("run.json", {"choices": "x"}, "choices is text, not a mapping"),
        ("run.json", {"started": -1}, "started is an integer, not text"),
        ("job.json", {"overrides": {}}, "overrides is a mapping, not a list"),
        (".hydra/overrides.yaml", ["a=1", 7], "not a list of overrides"),
        (".hydra/overrides.yaml", [["x" * 300_000]], "larger than"),
        ("metrics.json", {"x": "x" * 2_000_000}, "larger than"),
    ],
)
def test_the_damage_is_named(name: str, content: object, reason: str, make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("a", status="finished", test__acc=0.5)
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"No run in .* can be compared, 1 damaged: .*{name} is damaged: .*{reason}"):
        find_runs([str(tmp_path)])


WHOLE = {"classes": ["a", "b"], "counts": [[1, 0], [2, 3]], "mistakes": []}


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a"]},
        {"counts": [[1, 0], [2]]},
        {"counts": [[1, 0], ["x", 3]]},
        {"counts": None},
        {"mistakes": 3},
        {"mistakes": [{"label": "a"}]},
        {"mistakes": [{"label": "a", "predicted": "b", "png": "", "confidence": "x"}]},
        {"mistakes": [{"label": "a", "predicted": "b", "png": "x" * 1_000_000, "confidence": 1}]},
        {"counts": [[1, -1], [2, 3]]},
    ],
)
def test_damaged_heads_of_a_test_report_are_left_out(change: dict[str, object], make_run: MakeRun) -> None:
    folder = make_run("a", test__acc=0.5)
    heads = {"whole": WHOLE, "damaged": {**WHOLE, **change}}
    (folder / "test_report.json").write_text(json.dumps({"heads": heads}))
    assert read_run(folder).heads == {"whole": WHOLE}


def test_metrics_that_are_not_numbers_are_left_out(make_run: MakeRun) -> None:
    folder = make_run("a", test__acc=0.5)
    wrong = {"test/acc": None, "val/acc": 0.5, "name": "x", "params": float("inf"), "a": float("nan"), "b": True}
    wrong |= {"large": 1e300, "small": -1e-300}
    (folder / "metrics.json").write_text(json.dumps(wrong))
    assert read_run(folder).metrics == {"val/acc": 0.5}


def test_benchmarks_are_those_measured_last(tmp_path: Path) -> None:
    import os

    damaged = ["null", "7", json.dumps([{"macs": 1}, 7, {"macs": 1, "params": [], "latency_ms_p50": None}])]
    for number, content in enumerate(damaged):
        (tmp_path / f"x{number}").mkdir()
        (tmp_path / f"x{number}" / "benchmark.json").write_text(f'{{"models": {content}}}')
    for number, latency in enumerate((2.0, 1.0)):
        path = tmp_path / str(number) / "benchmark.json"
        path.parent.mkdir()
        rows = [{"model": "m", "macs": 1, "params": 5, "latency_ms_p50": latency}]
        rows += [{"model": "m", "params": 5, "latency_ms_p50": 9.0}]  # an exported model
        path.write_text(json.dumps({"models": rows}))
        os.utime(path, (number, number))
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "benchmark.json").symlink_to("benchmark.json")  # to itself
    assert read_benchmarks(tmp_path) == {("m", 5): {"latency_ms": 1.0, "macs": 1}}


def test_an_unknown_mode_is_damage(make_run: MakeRun) -> None:
    folder = make_run("a", score=("mse", "least"), test__mse=0.5)
    with pytest.raises(ValueError, match=r"run.json is damaged: mode must be one of max, min\."):
        read_run(folder)


def test_whatever_goes_wrong_with_one_folder_the_others_are_found(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run("good", test__acc=0.5)
    make_run("bad", test__acc=0.5)

    def read(folder: Path) -> object:
        if folder.name == "bad":
            raise OverflowError("too large")
        return read_run(folder)

    monkeypatch.setattr("src.report.runs.read_run", read)
    runs, damaged = find_runs([str(tmp_path)])
    assert [run.folder.name for run in runs] == ["good"]
    assert damaged == [f"{tmp_path}/runs/bad is damaged: OverflowError: too large"]
