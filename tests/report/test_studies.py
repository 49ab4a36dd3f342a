"""Reports of studies: trials, importances, and problems."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from src.report.comparisons import compare_by_data
from src.report.page import write_page
from src.report.runs import find_runs
from src.report.studies import describe_study, study_reports
from src.sweeps.study import open_study
from tests.report.conftest import MakeRun

optuna = pytest.importorskip("optuna", reason="studies need the extra [sweep]")


def study_of(trials: int, directions: tuple[str, ...] = ("maximize",)) -> "optuna.Study":
    study = optuna.create_study(directions=list(directions), sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(trials):
        trial = study.ask()
        x, y = trial.suggest_float("x", -1, 1), trial.suggest_float("y", -1, 1)
        if number % 2:
            trial.suggest_float("z", 0, 1)
        values = [-(x**2) + y / 100, -(y**2) + x / 100][: len(directions)]
        study.tell(trial, values)
    return study


def test_the_parameter_that_matters_is_named_first_for_each_objective() -> None:
    report = describe_study(study_of(60, ("maximize", "minimize")), "mine", ["acc", "ms"])
    first, second = report.importances
    assert isinstance(first, dict) and isinstance(second, dict)
    assert next(iter(first)) == "x" and first["x"] > 0.6 and next(iter(second)) == "y"
    assert report.unrated == ["z"] and "z" not in first and report.minimised == [False, True]
    assert len(report.trials) == 60 and len(report.trials[0][1]) == 2


@pytest.mark.parametrize("trials", [0, 1, 7])
def test_too_few_trials_have_no_importances(trials: int) -> None:
    report = describe_study(study_of(trials), "mine", ["acc"])
    assert str(report.importances[0]).startswith("Not enough data: ") and len(report.trials) == trials


def test_pruned_trials_are_shown_with_what_they_had_last() -> None:
    study = study_of(2)
    trial = study.ask()
    for epoch, value in enumerate((0.1, 0.3)):
        trial.report(value, epoch)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    study.ask()  # a running trial without values
    assert [(number, pruned) for number, _, pruned in describe_study(study, "mine", ["acc"]).trials][2:] == [(2, True)]
    assert describe_study(study, "mine", ["acc"]).trials[2][1] == [0.3]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_matters_is_what_matters_for_the_best_trials(direction: str) -> None:
    sign = 1 if direction == "maximize" else -1
    study = optuna.create_study(directions=[direction, "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(200):
        trial = study.ask()
        good, bad = trial.suggest_float("good", 0, 1), trial.suggest_float("bad", 0, 1)
        study.tell(trial, [sign * (5 * (good > 0.85) - 20 * (bad > 0.85)), 0.0])
    (found, _) = describe_study(study, "mine", ["acc", "ms"]).importances
    assert isinstance(found, dict) and found["good"] > found["bad"]


def test_few_trials_give_no_more_than_a_hint() -> None:
    assert [describe_study(study_of(trials), "mine", ["acc"]).is_rough for trials in (7, 20, 60)] == [
        False,
        True,
        False,
    ]


def test_objectives_without_names_are_counted() -> None:
    report = describe_study(study_of(3, ("maximize", "minimize")), "mine", ["acc"])
    assert report.objectives == ["objective 1", "objective 2"]


@pytest.mark.parametrize("prefix", ["", "sqlite:///"])
def test_a_study_is_found_where_its_sweep_has_been_moved(prefix: str, make_run: MakeRun, tmp_path: Path) -> None:
    if prefix:
        pytest.importorskip("sqlalchemy")
    gone = tmp_path / "gone" / "study.file"
    make_run("0", status="finished", study={"storage": f"{prefix}{gone}", "name": "mine", "objectives": ["acc"]})
    open_study(f"{prefix}{tmp_path / 'runs' / 'study.file'}", "mine", ["maximize"])
    (report,) = study_reports(find_runs([str(tmp_path)]).runs)
    assert report.problem is None and report.objectives == ["acc"]
    assert not gone.parent.exists()  # nothing is created in its place


def test_a_missing_storage_is_a_problem_of_its_study(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("0", status="finished", study={"storage": "sqlite:////nowhere/x.db", "name": "mine", "objectives": ["a"]})
    (report,) = study_reports(find_runs([str(tmp_path)]).runs)
    assert report.name == "runs (mine)" and "The study cannot be opened: there is neither /nowhere/x.db nor " in str(
        report.problem
    )


@pytest.mark.parametrize("change", [{"storage": "x" * 5000}, {"storage": "\0"}, {"name": []}, {"objectives": 3}])
def test_a_study_that_a_job_describes_wrongly_is_a_problem_of_its_own(
    change: dict[str, object], make_run: MakeRun, tmp_path: Path
) -> None:
    path = tmp_path / "study.log"
    open_study(str(path), "mine", ["maximize"])
    study = {"storage": str(path), "name": "mine", "objectives": ["acc"], **change}
    make_run("0", status="finished", study=study)
    (report,) = study_reports(find_runs([str(tmp_path)]).runs)
    assert (report.problem is None) == ("objectives" in change)
    assert report.problem is None or "cannot be opened" in report.problem or "File name too long" in report.problem


def test_damaged_trials_are_a_problem_of_their_study(make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    study = open_study(str(path), "mine", ["maximize"])
    study.tell(study.ask(), 0.5)
    path.write_text(path.read_text().replace("[0.5]", '["x"]'))
    make_run("0", status="finished", study={"storage": str(path), "name": "mine", "objectives": ["acc"]})
    (report,) = study_reports(find_runs([str(tmp_path)]).runs)
    assert report.problem is not None and report.problem.startswith("The study is damaged: TypeError: ")


def test_a_database_that_a_run_names_is_not_written_to(make_run: MakeRun, tmp_path: Path) -> None:
    mine = tmp_path / "mine.db"
    with closing(sqlite3.connect(mine)) as database:
        database.execute("CREATE TABLE mine (x)")
        database.commit()
    before = mine.read_bytes()
    make_run("0", status="finished", study={"storage": f"sqlite:///{mine}", "name": "s", "objectives": ["a"]})
    (report,) = study_reports(find_runs([str(tmp_path)]).runs)
    assert report.problem and mine.read_bytes() == before and not list(tmp_path.glob("mine.db-*"))


@pytest.mark.parametrize("value", [1e308, 1e31, float("inf"), 1e-40, 10**19])
def test_values_that_cannot_be_drawn_leave_the_page_and_the_other_studies(
    value: float, make_run: MakeRun, tmp_path: Path
) -> None:
    for name, values in {"good": (0.1, 0.2), "hostile": (value, -value)}.items():
        study = open_study(str(tmp_path / name), name, ["maximize"])
        for number in values:
            study.tell(study.ask(), number)
        storage = {"storage": str(tmp_path / name), "name": name, "objectives": ["acc"]}
        make_run(name, status="finished", test__acc=0.5, study=storage)
    runs = find_runs([str(tmp_path)]).runs
    good, hostile = study_reports(runs)
    write_page(tmp_path / "page.html", compare_by_data(runs), [good, hostile])
    assert good.problem is None and len(good.trials) == 2
    damaged = "the study is damaged: trial 0 has the values" in str(hostile.problem)
    assert damaged == (value in (1e308, 1e31, 1e-40)) and len(hostile.trials) == (2 if value == 10**19 else 0)


@pytest.mark.parametrize("value", ["x", None, [1], {"a": 1}, True, 10**400])
def test_values_that_are_no_numbers_are_a_problem_of_their_study(
    value: object, make_run: MakeRun, tmp_path: Path
) -> None:
    study = open_study(str(tmp_path / "study.log"), "mine", ["maximize"])
    study.tell(study.ask(), 0.5)
    text = (tmp_path / "study.log").read_text()
    (tmp_path / "study.log").write_text(text.replace("[0.5]", f"[{json.dumps(value)}]"))
    storage = {"storage": str(tmp_path / "study.log"), "name": "mine", "objectives": ["acc"]}
    make_run("0", status="finished", test__acc=0.5, study=storage)
    runs = find_runs([str(tmp_path)]).runs
    (report,) = study_reports(runs)
    write_page(tmp_path / "page.html", compare_by_data(runs), [report])
    assert report.problem is not None and "damaged" in report.problem


def test_a_database_without_an_end_is_a_problem_of_its_own(make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    open_study(f"sqlite:///{path}", "mine", ["maximize"])
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE studies RENAME TO s2")
        connection.execute(
            "CREATE VIEW studies AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
            "SELECT study_id, study_name FROM s2, r WHERE r.n < 0"
        )
    make_run("0", status="finished", study={"storage": f"sqlite:///{path}", "name": "mine", "objectives": ["acc"]})
    (report,) = study_reports(find_runs([str(tmp_path)]).runs)
    assert "it holds a view, which no study has" in str(report.problem)
