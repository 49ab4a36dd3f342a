"""Studies as sweeps: resumed, shared, extended, and refused if they make no sense."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

optuna = pytest.importorskip("optuna", reason="studies need the extra [sweep]")

from src.sweeps.study import open_study
from tests.sweeps.conftest import TOY, Toy, overrides, starts, statuses

LR = "model.optimizer.lr=tag(log,interval(1e-4,1e-1))"
STUDY = ["hydra/sweeper=optuna", "optimized_metric=val/acc", LR]


def study_of(folder: Path) -> "optuna.Study":
    return open_study(str(folder / "sweep" / "study.journal"), "train")


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in study_of(folder).trials]


def drawn(folder: Path) -> list[float]:
    return [trial.params["model.optimizer.lr"] for trial in study_of(folder).trials]


def test_a_study_finds_what_is_best_and_writes_it_down(toy: Toy, tmp_path: Path) -> None:
    result = toy(*STUDY, "hydra.sweeper.n_trials=20")
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())["best"]
    assert len(best) == 1 and best[0]["params"]["model.optimizer.lr"] == pytest.approx(0.01, rel=0.5)
    assert best[0]["values"]["val/acc"] == max(facts["value"] for facts in statuses(tmp_path).values())
    assert best[0]["command"].startswith("python src/train.py reproduce=") and best[0]["command"] in result.stdout
    assert starts(tmp_path) == dict.fromkeys(range(20), 1)
    written = (tmp_path / "sweep" / "optimization_results.yaml").read_text()
    assert f"command: {best[0]['command']}\n" in written  # on one line, to be copied


def test_a_study_goes_on_as_if_it_had_never_ended(toy: Toy, tmp_path: Path) -> None:
    toy(*STUDY, "hydra.sweeper.n_trials=14")
    whole = drawn(tmp_path)
    (tmp_path / "sweep").rename(tmp_path / "whole")
    for n_trials in (3, 12, 14, 14):
        toy(*STUDY, f"hydra.sweeper.n_trials={n_trials}")
    assert drawn(tmp_path) == whole and len(set(whole)) == 14


def test_trials_that_were_killed_are_run_again_and_counted_once(toy: Toy, tmp_path: Path) -> None:
    options = [*STUDY, "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "tags=[killed_once]"]
    toy(*options, status=75)
    before = drawn(tmp_path)
    assert states(tmp_path) == ["RUNNING"] * 4
    toy(*options)
    assert starts(tmp_path) == dict.fromkeys(range(4), 2)
    assert states(tmp_path) == ["COMPLETE"] * 4 and drawn(tmp_path) == before


def test_what_a_stranger_s_study_keeps_beside_its_trials_is_taken_for_text(toy: Toy, tmp_path: Path) -> None:
    toy(*STUDY, "hydra.sweeper.n_trials=3")
    journal = tmp_path / "sweep" / "study.journal"
    text = journal.read_text().replace(str(tmp_path / "sweep"), "\\u001b]0;mine\\u0007")
    lines = text.splitlines()
    odd = {"op_code": 8, "worker_id": "x", "trial_id": 2, "user_attr": {"retry_of": [1]}}
    lines.insert(-1, json.dumps(odd))  # before the line that ends this trial
    journal.write_text("".join(f"{line}\n" for line in lines))
    result = toy(*STUDY, "hydra.sweeper.n_trials=3")
    assert "best trial" in result.stdout and "\x1b" not in result.stdout + result.stderr
    journal.write_text(journal.read_text().replace('"folder":', '"other":'))
    assert f"reproduce={tmp_path}/sweep/" in toy(*STUDY, "hydra.sweeper.n_trials=3").stdout


def test_a_parameter_that_is_no_number_runs_nothing(toy: Toy, tmp_path: Path) -> None:
    toy(*STUDY, "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=2", "tags=[killed_once]", status=75)
    journal = tmp_path / "sweep" / "study.journal"
    value = "{_target_:os.mkdir,path:" + str(tmp_path / "pwned") + "}"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines = [{**line, "param_value_internal": value} if "param_value_internal" in line else line for line in lines]
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    result = toy(*STUDY, "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=2", "tags=[killed_once]", status=1)
    assert "model.optimizer.lr of trial 0 is not in this search space" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and starts(tmp_path) == {0: 1}


def test_a_study_whose_values_are_no_numbers_is_refused(toy: Toy, tmp_path: Path) -> None:
    toy(*STUDY, "hydra.sweeper.n_trials=1")
    journal = tmp_path / "sweep" / "study.journal"
    journal.write_text(re.sub(r'"values":\[[^]]*\]', '"values":["\\\\u001b"]', journal.read_text()))
    result = toy(*STUDY, "hydra.sweeper.n_trials=1", status=1)
    assert "The study train is damaged, trial 0 has the values" in result.stderr and "\x1b" not in result.stderr


def test_what_ended_after_its_launcher_is_told_later(toy: Toy, tmp_path: Path) -> None:
    toy(*STUDY, "hydra.sweeper.n_trials=2")
    journal = tmp_path / "sweep" / "study.journal"
    lines = journal.read_text().splitlines(keepends=True)
    told = optuna.storages.journal._storage.JournalOperation.SET_TRIAL_STATE_VALUES
    journal.write_text("".join(line for line in lines if json.loads(line)["op_code"] != told))
    assert states(tmp_path) == ["RUNNING"] * 2
    toy(*STUDY, "hydra.sweeper.n_trials=2")
    assert states(tmp_path) == ["COMPLETE"] * 2 and starts(tmp_path) == {0: 1, 1: 1}


def test_failed_trials_are_tried_again_under_new_numbers(toy: Toy, tmp_path: Path) -> None:
    options = [*STUDY, "hydra.sweeper.n_trials=2", "tags=[fail]"]
    for _ in range(2):
        result = toy(*options, status=1)
        assert states(tmp_path) == ["FAIL"] * 2 and "2 of 2 jobs failed" in result.stderr
    toy(*options, "hydra.sweeper.retry_failed=true", status=1)
    assert states(tmp_path) == ["FAIL"] * 4 and drawn(tmp_path)[2:] == drawn(tmp_path)[:2]


def test_several_processes_share_a_study(tmp_path: Path) -> None:
    """In one folder, at the same time, up to their common number of trials."""
    command = [sys.executable, TOY, "-m", f"hydra.sweep.dir={tmp_path}/sweep", *STUDY, "hydra.sweeper.n_trials=12"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert 0 in {process.returncode for process in processes}, outputs  # others may have left it a trial
    assert {process.returncode for process in processes} <= {0, 75}, outputs
    assert states(tmp_path) == ["COMPLETE"] * 12 and len(set(drawn(tmp_path))) == 12
    assert starts(tmp_path) == dict.fromkeys(range(12), 1)


def test_a_folder_can_be_moved_with_what_was_interrupted_in_it(toy: Toy, tmp_path: Path) -> None:
    options = [*STUDY, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "tags=[killed_once]"]
    toy(*options, status=75)
    (tmp_path / "sweep").rename(tmp_path / "moved")
    toy(*options, f"hydra.sweep.dir={tmp_path / 'moved'}")
    (tmp_path / "moved").rename(tmp_path / "sweep")
    assert states(tmp_path) == ["COMPLETE"] * 2 and starts(tmp_path) == {0: 2, 1: 2}


def test_a_trial_that_another_process_runs_is_left_to_it(tmp_path: Path) -> None:
    command = [sys.executable, TOY, "-m", f"hydra.sweep.dir={tmp_path}/sweep", *STUDY, "hydra.sweeper.n_trials=2"]
    first = subprocess.Popen([*command, "tags=[wait]"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while first.poll() is None and not (tmp_path / "sweep" / "0" / "starts.txt").is_file():
        time.sleep(0.05)
    second = subprocess.run([*command, "tags=[dev]"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 75 and states(tmp_path) == ["RUNNING", "COMPLETE"]
    os.kill(first.pid, 9)
    first.wait()
    third = subprocess.run([*command, "tags=[dev]"], capture_output=True, text=True, timeout=60)
    assert third.returncode == 0, third.stderr
    assert states(tmp_path) == ["COMPLETE"] * 2 and starts(tmp_path) == {0: 2, 1: 1}


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "grid", "nsgaii"])
def test_every_sampler(sampler: str, toy: Toy, tmp_path: Path) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes", reason="this sampler needs the extra [sweep]")
    searched = ["model.optimizer.lr=0.1,0.01,0.001", "seed=range(1,3)"] if sampler == "grid" else [LR, "seed=1,2"]
    toy("hydra/sweeper=optuna", "optimized_metric=x", f"hydra/sweeper/sampler={sampler}", *searched)
    known = {tuple(words) for words in overrides(tmp_path).values()}
    assert len(known) == (6 if sampler == "grid" else 20)  # of 20 trials asked for
    assert states(tmp_path) == ["COMPLETE"] * len(known)


def test_a_search_depends_on_the_model(toy: Toy, tmp_path: Path) -> None:
    toy("hparams_search=mnist_optuna", "hydra/sweeper/pruner=none", "hydra.sweeper.n_trials=8")
    for words in overrides(tmp_path).values():
        assert ("model=simple_mlp" in words) == any(word.startswith("+model.net.dropout=") for word in words)


def test_a_database_serves_two_folders(toy: Toy, tmp_path: Path) -> None:
    storage = f"hydra.sweeper.storage=sqlite:///{tmp_path}/studies.db"
    toy(*STUDY, storage, "hydra.sweeper.n_trials=2")
    (tmp_path / "sweep").rename(tmp_path / "elsewhere")
    toy(*STUDY, storage, "hydra.sweeper.n_trials=3")
    assert list(overrides(tmp_path)) == [2]


MISTAKES: dict[str, Any] = {
    "optimized_metric=null": "optimized_metric=null: name the metric to optimise, such as optimized_metric=val/acc",
    "optimized_metric=[a,b] hydra.sweeper.direction=maximize": "optimized_metric=a, b and hydra.sweeper.direction="
    "maximize: give one direction for each metric, or hydra.sweeper.direction=null",
    "hydra.sweeper.direction=up": "hydra.sweeper.direction=up must be maximize or minimize.",
    "hydra.sweeper.n_trials=0": "hydra.sweeper.n_trials=0 must be at least 1.",
    "hydra.sweeper.n_jobs=999": "n_jobs=999: this machine has the cores for 1 to ",
    "model.optimizer.lr=interval(1,1)": "model.optimizer.lr=interval(1,1) is an empty range: 1.0 is not below 1.0.",
    "model.optimizer.lr=0.1": "There is nothing to search: give ranges, such as",
    "modle=a,b": "There is no modle in the configuration.",
    "model=mnist_sdn_8k,mnist_sdn_9k": "There is no model=mnist_sdn_9k. Did you mean mnist_sdn_8k",
    "hydra/sweeper/sampler=grid": "hydra/sweeper/sampler=grid needs single values for model.optimizer.lr, or a range",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_is_answered_before_anything_runs(argument: str, toy: Toy, tmp_path: Path) -> None:
    options = [option for option in STUDY if option.partition("=")[0] != argument.partition("=")[0]]
    result = toy(*options, *argument.split(), status=1)
    assert MISTAKES[argument] in result.stderr and len(result.stderr.splitlines()) == 1
    assert not starts(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["hydra/sweeper/pruner=median", "hydra.sweeper.direction=[maximize,minimize]"],
            "several objectives can't prune",
        ),
        (["hydra/sweeper/pruner=median", "optimized_metric=[val/acc,params]"], "several objectives can't prune"),
        (
            ["hydra/sweeper/pruner=median", "optimized_metric=test/acc"],
            "test/acc is not known during training: set hydra.sweeper.prune_by=val/acc,",
        ),
    ],
)
def test_pruning_that_makes_no_sense(options: list[str], message: str, toy: Toy) -> None:
    assert message in toy(*STUDY[:1], *STUDY[2:], "optimized_metric=val/acc", *options, status=1).stderr


@pytest.mark.parametrize(
    ("options", "directions"),
    [
        (["optimized_metric=val/acc"], ["MAXIMIZE"]),
        (["optimized_metric=val/mse_best", "model=mnist_autoencoder_5k"], ["MINIMIZE"]),
        (["optimized_metric=val/loss"], ["MINIMIZE"]),
        (["optimized_metric=val/loss", "hydra.sweeper.direction=maximize"], ["MAXIMIZE"]),
        (["optimized_metric=val/mse", "model=mnist_autoencoder_5k,mnist_autoencoder_5k"], ["MINIMIZE"]),
    ],
)
def test_the_direction_follows_from_what_is_optimised(
    options: list[str], directions: list[str], toy: Toy, tmp_path: Path
) -> None:
    result = toy("hydra/sweeper=optuna", LR, "hydra.sweeper.n_trials=3", *options)
    assert [direction.name for direction in study_of(tmp_path).directions] == directions
    choose = min if directions == ["MINIMIZE"] else max
    found = {number: facts["value"] for number, facts in statuses(tmp_path).items()}
    best = choose(found, key=lambda number: found[number])
    assert f"best trial {best}: " in result.stdout
    first = next(line for line in result.stdout.splitlines() if "finished" in line and "│" in line)
    assert first.split("│")[1].strip() == str(best)


def test_a_study_with_another_direction_says_how_it_goes_on(toy: Toy, tmp_path: Path) -> None:
    options = ["hydra/sweeper=optuna", "optimized_metric=val/loss", LR, "hydra.sweeper.n_trials=1"]
    toy(*options, "hydra.sweeper.direction=maximize")
    refused = toy(*options, status=1).stderr
    assert "has maximize; choose another hydra.sweeper.study_name, or use hydra.sweeper.direction=[maximize]" in refused
    toy(*options, "hydra.sweeper.direction=[maximize]")


def test_a_folder_is_not_taken_by_a_study_that_does_not_know_its_jobs(toy: Toy, tmp_path: Path) -> None:
    toy(*STUDY, "hydra.sweeper.n_trials=2")
    before = overrides(tmp_path)
    result = toy(*STUDY, "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=other", status=1)
    assert "holds a job 0 that the study other in" in result.stderr and overrides(tmp_path) == before
    assert starts(tmp_path) == {0: 1, 1: 1}
