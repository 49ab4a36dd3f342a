"""Runs are found once, and read as far as they can be."""

import json
from pathlib import Path

import pytest

from src.report.runs import find_runs, measured_latencies, read_run
from src.utils.locks import locked
from tests.report.conftest import MakeRun


def test_runs_are_found_below_folders_in_order_and_once(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("sweep/10", "sweep/2", "other"):
        make_run(name, test__acc=0.5)
    folders = [str(tmp_path / "runs"), str(tmp_path / "runs" / "sweep" / "2"), str(tmp_path / "runs" / "." / "other")]
    assert [run.folder.name for run in find_runs(folders)] == ["other", "2", "10"]


def test_runs_that_look_for_faults_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("real", test__acc=0.5)
    make_run("fault", choices={"debug": "limit"}, test__acc=0.1)
    assert [run.folder.name for run in find_runs([str(tmp_path)])] == ["real"]


def test_folders_that_are_none_and_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="runs: nowhere is not a folder"):
        find_runs(["nowhere"])
    with pytest.raises(ValueError, match="There is no run in"):
        find_runs([str(tmp_path)])
    with pytest.raises(ValueError, match="runs names no folder"):
        find_runs([])
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_runs([str(tmp_path / "file")])


def test_what_makes_a_run_what_it_is(make_run: MakeRun) -> None:
    said = ["model=simple_mlp", "model.optimizer.lr=0.1", "sweep=x", "tags=[a]", "paths.log_dir=/x", "+model.net.d=1"]
    run = read_run(make_run("a", *said, seed=7, test__acc=0.5))
    assert run.settings == {"model": "simple_mlp", "data": "mnist", "model.optimizer.lr": "0.1", "model.net.d": "1"}
    assert (run.seed, run.status, run.figures) == (7, "finished", {"test/acc": 0.5})


def test_how_a_run_stands(make_run: MakeRun) -> None:
    for status in ("finished", "failed", "pruned", "interrupted", "pending"):
        assert read_run(make_run(status, status=status)).status == status
    lost, alone, failed = make_run("lost", status="running"), make_run("alone"), make_run("traced")
    (failed / "traceback.txt").touch()
    assert [read_run(folder).status for folder in (lost, alone, failed)] == ["interrupted", "interrupted", "failed"]
    with locked(alone):
        assert read_run(alone).status == "running"


@pytest.mark.parametrize("name", ["metrics.json", "run.json", "status.json", ".hydra/overrides.yaml"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"null", b'"x"'])
def test_a_damaged_file_is_a_lack_and_no_error(name: str, content: bytes, make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("a", "model=simple_mlp", status="finished", test__acc=0.5)
    (folder / name).write_bytes(content)
    (run,) = find_runs([str(tmp_path)])
    assert run.status in ("finished", "pending") and run.figures in ({}, {"test/acc": 0.5})
    assert isinstance(run.settings, dict) and run.test_report == {}


def test_a_figure_that_is_no_number_is_lacking(make_run: MakeRun) -> None:
    folder = make_run("a", test__acc=0.5)
    (folder / "metrics.json").write_text(json.dumps({"test/acc": None, "val/acc": 0.5, "name": "x"}))
    assert read_run(folder).figures == {"val/acc": 0.5}


def test_latencies_are_those_measured_last(tmp_path: Path) -> None:
    import os

    for number, latency in enumerate((2.0, 1.0)):
        path = tmp_path / str(number) / "benchmark.json"
        path.parent.mkdir()
        rows = [{"model": "m", "macs": 1, "latency_ms_p50": latency}, {"model": "m", "latency_ms_p50": 9.0}]
        path.write_text(json.dumps({"models": rows}))
        os.utime(path, (number, number))
    assert measured_latencies(tmp_path) == {"m": 1.0}
