"""Means, standard deviations and Pareto fronts, compared to known values."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.report.runs import find_runs
from src.report.statistics import group_runs, pareto_front, repeated
from tests.report.conftest import MakeRun


def test_seeds_of_one_configuration_are_one_line(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, acc in enumerate((0.8, 0.9, 1.0)):
        make_run(f"a{seed}", "model=simple_mlp", "data=mnist", seed=seed, test__acc=acc)
    make_run("b0", seed=1, test__acc=0.95)
    make_run("c0", "model.optimizer.lr=0.1", "model=simple_mlp", seed=1, params=7)
    found = group_runs(find_runs([str(tmp_path)]).runs, "test/acc")
    assert [one.label for one in found] == ["mnist_sdn_8k", "simple_mlp", "simple_mlp lr=0.1"]
    assert [len(one.runs) for one in found] == [1, 3, 1]
    assert found[1].mean("test/acc") == pytest.approx(0.9) and found[1].std("test/acc") == pytest.approx(0.1)
    assert found[0].std("test/acc") is None and found[2].mean("test/acc") is None and found[2].mean("params") == 7


def test_less_loss_is_better(make_run: MakeRun, tmp_path: Path) -> None:
    for name, loss in {"a": 0.3, "b": 0.1}.items():
        make_run(name, f"data.batch_size={ord(name)}", test__loss=loss)
    found = group_runs(find_runs([str(tmp_path)]).runs, "test/loss", minimised=True)
    assert [one.label for one in found] == ["batch_size=98", "batch_size=97"]


def test_of_runs_with_one_seed_the_latest_counts(make_run: MakeRun, tmp_path: Path) -> None:
    for name, seed, started, acc in (("a", 1, "2026-02", 0.9), ("b", 1, "2026-01", 0.1), ("c", 2, "2026-01", 0.7)):
        folder = make_run(name, seed=seed, test__acc=acc)
        (folder / "run.json").write_text(json.dumps({"seed": seed, "started": started}))
    (one,) = group_runs(find_runs([str(tmp_path)]).runs, "test/acc")
    assert sorted(one.values("test/acc")) == [0.7, 0.9] and len(one.runs) == 3


def test_one_value_in_several_notations_is_one_configuration(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, rate in enumerate(("0.001", "1e-3", "0.0010")):
        make_run(rate, f"model.optimizer.lr={rate}", seed=seed, test__acc=0.5)
    assert len(group_runs(find_runs([str(tmp_path)]).runs, "test/acc")) == 1


def test_a_run_that_starts_from_a_checkpoint_is_another_configuration(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", seed=1, test__acc=0.5)
    make_run("b", "ckpt_path=x.ckpt", seed=2, test__acc=0.9)
    assert len(group_runs(find_runs([str(tmp_path)]).runs, "test/acc")) == 2


def test_runs_that_have_not_finished_count_in_no_mean(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", seed=1, status="finished", test__acc=0.5)
    make_run("b", seed=2, status="failed", test__acc=0.9)
    (one,) = group_runs(find_runs([str(tmp_path)]).runs, "test/acc")
    assert one.mean("test/acc") == 0.5 and one.statuses == {"finished": 1, "failed": 1}


def test_a_latency_is_the_models_where_the_run_has_none(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", test__acc=0.5)
    make_run("b", "model=simple_mlp", test__acc=0.4, latency_ms=3.0)
    make_run("c", "data.num_classes=100", test__acc=0.3, params=9)  # the same name, another size
    make_run("d", "data.num_classes=10", test__acc=0.2, params=8)
    benchmarks = {
        ("mnist_sdn_8k", 8): {"latency_ms": 2.0, "macs": 5.0},
        ("simple_mlp", 8): {"latency_ms": 9.0, "macs": 6.0},
    }
    found = group_runs(find_runs([str(tmp_path)]).runs, "test/acc", benchmarks=benchmarks)
    assert [one.mean("latency_ms") for one in found] == [None, 3.0, None, 2.0]
    assert [one.mean("macs") for one in found] == [
        None,
        None,
        None,
        5.0,
    ]  # b has no parameters that would identify its net


def test_labels_name_keys_by_their_ends_unless_two_have_the_same(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", "model.a.lr=1", "model.b.lr=2", "data.size=0.123456789")
    make_run("b", "model.a.lr=2", "model.b.lr=2", "data.size=3")
    labels = {one.label for one in group_runs(find_runs([str(tmp_path)]).runs, "test/acc")}
    assert labels == {"size=0.1235 lr=1", "size=3 lr=2"}
    make_run("c", "model.a.lr=2", "model.b.lr=3", "data.size=3")
    labels = {one.label for one in group_runs(find_runs([str(tmp_path)]).runs, "test/acc")}
    assert "size=3 model.a.lr=2 model.b.lr=3" in labels


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    front = {points[index] for index in pareto_front(points)}
    beaten = {
        (cost, value)
        for cost, value in points
        if any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
    }
    assert front == set(points) - beaten


def test_folds_of_one_configuration_are_one_line(make_run: MakeRun, tmp_path: Path) -> None:
    """Separate from runs that validate on another part of the data, whatever their seeds."""
    for fold, acc in enumerate((0.8, 0.9, 1.0)):
        make_run(f"a{fold}", f"data.fold={fold}", seed=1, val__acc=acc)
    make_run("plain", seed=1, val__acc=0.5)
    make_run("null", "data.fold=null", seed=2, val__acc=0.6)
    make_run("ten", "data.fold=0", "data.folds=10", seed=1, val__acc=0.7)
    found = group_runs(find_runs([str(tmp_path)]).runs, "val/acc")
    assert {one.label: len(one.runs) for one in found} == {"fold=each": 3, "defaults": 2, "fold=each folds=10": 1}
    assert found[0].mean("val/acc") == pytest.approx(0.9) and found[0].std("val/acc") == pytest.approx(0.1)
    assert [repeated(one.runs) for one in found] == ["folds", "folds", "seeds"]
    make_run("b0", "data.fold=0", seed=2, val__acc=0.8)
    folded = group_runs(find_runs([str(tmp_path)]).runs, "val/acc")[0]
    assert len(folded.values("val/acc")) == 4 and repeated(folded.runs) == "seeds and folds"
