"""The storage of studies, and its possible faults."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason="studies need the extra [sweep]")

from src.config.paths import ROOT
from src.sweeps.study import JournalLock, open_study, trial_of


def journal(folder: Path) -> str:
    return str(folder / "deep" / "study.journal")


def database(folder: Path) -> str:
    return f"sqlite:///{folder}/studies.db"


STORAGES = [journal, database]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_study_is_begun_once_and_found_again(storage: Callable[[Path], str], tmp_path: Path) -> None:
    first = open_study(storage(tmp_path), "mine", ["maximize"])
    trial = first.ask()
    trial.suggest_float("x", 0, 1)
    first.tell(trial, 0.5)
    again = open_study(storage(tmp_path), "mine", ["maximize"])
    assert again.best_value == 0.5 and open_study(storage(tmp_path), "mine").best_params == first.best_params
    other = open_study(storage(tmp_path), "other", ["minimize", "maximize"])
    assert not other.trials and len(other.directions) == 2


@pytest.mark.parametrize("storage", STORAGES)
def test_a_trial_reported_to_by_one_process_is_judged_with_those_of_others(
    storage: Callable[[Path], str], tmp_path: Path
) -> None:
    pruner = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 0}
    asking = open_study(storage(tmp_path), "mine", ["maximize"])
    verdicts = []
    for value in (0.9, 0.1, 0.95):
        trial = trial_of(open_study(storage(tmp_path), "mine", pruner=pruner), asking.ask().number)
        trial.report(value, 1)
        verdicts.append(trial.should_prune())
        asking.tell(trial.number, value)
    assert verdicts == [False, True, False]
    trial = trial_of(open_study(storage(tmp_path), "mine"), asking.ask().number)
    trial.report(0.0, 1)
    assert not trial.should_prune()  # without a pruner, nothing is pruned


@pytest.mark.parametrize("target", ["nowhere", "study.journal", ".lock"])
def test_a_lock_that_optuna_has_left_does_not_matter(target: str, tmp_path: Path) -> None:
    (tmp_path / "study.journal.lock").symlink_to(target)
    program = "import sys; from src.sweeps.study import open_study\nopen_study(sys.argv[1], 'mine', ['maximize']).ask()"
    command = [sys.executable, "-c", program, str(tmp_path / "study.journal")]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == 0  # would hang if the lock mattered


def test_a_process_that_is_killed_while_it_writes_leaves_no_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    program = (
        "import os, sys; from src.sweeps.study import JournalLock\n"
        "JournalLock(sys.argv[1]).acquire(); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, path]
    assert subprocess.run(command, cwd=ROOT).returncode == -9
    held = JournalLock(path)
    assert held.acquire()
    with pytest.raises(TimeoutError, match=r"study\.journal is locked by another program"):
        JournalLock(path, timeout=0).acquire()
    held.release()
    assert open_study(path, "mine", ["maximize"]).ask().number == 0


@pytest.mark.parametrize("kind", ["view", "trigger"])
def test_a_database_that_holds_programs_is_refused(kind: str, tmp_path: Path) -> None:
    open_study(database(tmp_path), "mine", ["maximize"])
    program = {
        "view": "CREATE VIEW v AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
        "trigger": "CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END",
    }[kind]
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        connection.execute(program)
    with pytest.raises(ValueError, match=f"The study mine cannot be opened in .*: it holds a {kind}, which no"):
        open_study(database(tmp_path), "mine", bounded=True)


def test_so_much_is_done_to_read_a_database_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(database(tmp_path), "mine", ["maximize"])
    study.tell(study.ask(), 1.0)
    assert len(open_study(database(tmp_path), "mine", bounded=True).trials) == 1
    monkeypatch.setattr("src.sweeps.study.STEPS", 10)
    monkeypatch.setattr("src.sweeps.study.MAX_STEPS", 1000)
    with pytest.raises(ValueError, match="it takes too long to read"):
        open_study(database(tmp_path), "mine", bounded=True)


def test_a_study_that_wants_something_else_is_refused(tmp_path: Path) -> None:
    open_study(journal(tmp_path), "mine", ["maximize"])
    with pytest.raises(ValueError, match=r"direction=minimize: the study mine in .* has maximize; choose another"):
        open_study(journal(tmp_path), "mine", ["minimize"])


def damage(folder: Path, content: str) -> str:
    path = folder / "study.journal"
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\nworld\n", "it is not the storage of a study, or it is damaged"),
        ('{"op_code": 0, "worker_id": "x"}\n', "it is not the storage of a study, or it is damaged"),
        ('{"op_code": 99, "worker_id": "x"}\n', "another version of Optuna made it"),
    ],
)
def test_a_file_that_is_no_journal(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"The study mine cannot be opened in .*study.journal: {message}"):
        open_study(damage(tmp_path, content), "mine", ["maximize"])


def test_a_database_of_another_version_of_optuna(tmp_path: Path) -> None:
    open_study(database(tmp_path), "mine", ["maximize"])
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        connection.execute("update alembic_version set version_num='v9.9.0.a'")
    with pytest.raises(ValueError, match="another version of Optuna made it; choose another"):
        open_study(database(tmp_path), "mine", ["maximize"])


def test_a_database_that_is_locked(tmp_path: Path) -> None:
    open_study(database(tmp_path), "mine", ["maximize"])
    connection = sqlite3.connect(tmp_path / "studies.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ValueError, match="another program has locked it; try again when that has ended"):
        open_study(f"{database(tmp_path)}?timeout=0.2", "mine", ["maximize"])
    connection.close()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////proc/nowhere/x.db", "unable to open database file"),
        ("nothing://x", "Can't load plugin|Could not parse|Failed to import"),
        ("/proc/nowhere/study.journal", "No such file"),
    ],
)
def test_a_place_that_is_none(storage: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"The study mine cannot be opened in .*: .*({message})"):
        open_study(storage, "mine", ["maximize"])


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[sweep\]'"):
        open_study(journal(tmp_path), "mine", ["maximize"])
