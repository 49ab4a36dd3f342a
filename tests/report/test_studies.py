"""What is told of studies: trials, importances, and why something can't be told."""

from pathlib import Path

import pytest

from src.report.runs import find_runs
from src.report.studies import describe_study, study_reports
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
def test_too_few_trials_are_said_to_be_too_few(trials: int) -> None:
    report = describe_study(study_of(trials), "mine", ["acc"])
    assert str(report.importances[0]).startswith("Too little is known for it: ") and len(report.trials) == trials


def test_pruned_trials_are_shown_with_what_they_had_last() -> None:
    study = study_of(2)
    trial = study.ask()
    for epoch, value in enumerate((0.1, 0.3)):
        trial.report(value, epoch)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    study.ask()  # and one that runs, with nothing to show
    assert [(number, pruned) for number, _, pruned in describe_study(study, "mine", ["acc"]).trials][2:] == [(2, True)]
    assert describe_study(study, "mine", ["acc"]).trials[2][1] == [0.3]


def test_a_storage_that_is_gone_is_said_to_be_gone(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("0", status="finished", study={"storage": "sqlite:////nowhere/x.db", "name": "mine", "objectives": ["a"]})
    (report,) = study_reports(find_runs([str(tmp_path)]))
    assert report.name == "runs (mine)" and "The study mine cannot be opened" in str(report.problem)
