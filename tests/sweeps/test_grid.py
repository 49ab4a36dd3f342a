"""A grid: every combination once, whatever happens in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.run.status import update_status
from src.sweeps.jobs import Sweep
from src.system.locks import locked
from tests.sweeps.conftest import TOY, Toy, overrides, starts, statuses


def test_every_combination_is_a_job_and_finished_ones_are_left_alone(toy: Toy, tmp_path: Path) -> None:
    result = toy("model.optimizer.lr=0.1,0.01", "seed=1,2")
    assert overrides(tmp_path) == {
        0: ["model.optimizer.lr=0.1", "seed=1"],
        1: ["model.optimizer.lr=0.1", "seed=2"],
        2: ["model.optimizer.lr=0.01", "seed=1"],
        3: ["model.optimizer.lr=0.01", "seed=2"],
    }
    assert "4 jobs: 4 finished" in result.stdout
    assert {number: facts["status"] for number, facts in statuses(tmp_path).items()} == dict.fromkeys(
        range(4), "finished"
    )
    again = toy("seed=2,1,3", "model.optimizer.lr=1e-2,0.10")  # in another notation, and with one more value
    assert starts(tmp_path) == dict.fromkeys(range(6), 1)
    assert overrides(tmp_path)[4] == ["seed=3", "model.optimizer.lr=0.01"]
    assert "2 of 6 jobs are pending" in again.stdout and "6 jobs: 6 finished" in again.stdout


AUTOENCODER = "model=mnist_autoencoder_5k"


@pytest.mark.parametrize(("model", "best"), [("model=mnist_sdn_8k", 1), (AUTOENCODER, 0)])
def test_the_best_job_is_named_by_the_score_of_its_task(model: str, best: int, toy: Toy, tmp_path: Path) -> None:
    metric = "optimized_metric=val/mse_best" if model == AUTOENCODER else "optimized_metric=val/acc_best"
    rates = "model.optimizer.lr=0.5,0.01,0.2"  # the second has the largest value
    for _ in range(2):  # the second time there is nothing to do
        result = toy(model, metric, rates)
        assert f"best job {best}: {metric.partition('=')[2]} " in result.stdout
        assert f"again: python src/train.py reproduce={tmp_path}/sweep/{best} test=true" in result.stdout
    assert starts(tmp_path) == dict.fromkeys(range(3), 1)


def test_tasks_that_disagree_on_the_direction_are_refused(toy: Toy, tmp_path: Path) -> None:
    models = "model=mnist_sdn_8k,mnist_autoencoder_5k"
    errors = toy("model.mode=max,min", "optimized_metric=val/acc_best", status=1).stderr
    assert "optimized_metric=val/acc_best would be maximised in some jobs and minimised in others" in errors
    assert not starts(tmp_path)
    toy(models, "optimized_metric=val/loss", "sweep=agreed")  # minimised by both


def test_the_score_of_jobs_that_are_known_is_the_recorded_one(toy: Toy, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", "train", ["model", "optimized_metric"])
    jobs = sweep.jobs_for([f"model={name}", "optimized_metric=val/mse"] for name in ("mnist_sdn_8k", "gone_since"))
    for job, value in zip(jobs, (0.2, 0.1), strict=True):
        update_status(job.folder, status="finished", value=value)
        (job.folder / "run.json").write_text(json.dumps({"score": "mse", "mode": "min"}))
    assert "best job 1: val/mse 0.1;" in toy("model=mnist_sdn_8k,gone_since", "optimized_metric=val/mse").stdout


def test_jobs_that_are_known_are_not_composed_again(toy: Toy, tmp_path: Path) -> None:
    (job,) = Sweep(tmp_path / "sweep", "train", ["model"]).jobs_for([["model=gone_since"]])
    update_status(job.folder, status="finished", value=0)
    result = toy("model=mnist_sdn_8k,gone_since")
    assert "2 jobs: 2 finished" in result.stdout and list(starts(tmp_path)) == [1]
    assert "There is no model=gone_too." in toy("model=mnist_sdn_8k,gone_since,gone_too", status=1).stderr


def test_the_numbers_of_jobs_are_never_given_twice(toy: Toy, tmp_path: Path) -> None:
    toy("seed=1,2")
    shutil.rmtree(tmp_path / "sweep" / "1")
    toy("seed=3")
    assert overrides(tmp_path) == {0: ["seed=1"], 2: ["seed=3"]}


def test_failed_jobs_are_told_as_they_fail_and_tried_again_on_request(toy: Toy, tmp_path: Path) -> None:
    failed = toy("tags=[fail_once]", "seed=1,2", status=1)
    assert "seed=1 is no good" in failed.stderr and "job 1 failed: seed=2 is no good." in failed.stdout
    assert failed.stderr.splitlines()[-1].startswith("ERROR: 2 of 2 jobs failed; to try them again: python ")
    assert statuses(tmp_path)[0]["error"] == "seed=1 is no good."
    assert (tmp_path / "sweep" / "0" / "traceback.txt").is_file()
    toy("tags=[fail_once]", "seed=1,2", status=1)
    assert starts(tmp_path) == {0: 1, 1: 1}
    toy("tags=[fail_once]", "seed=1,2", "hydra.sweeper.retry_failed=true")
    assert starts(tmp_path) == {0: 2, 1: 2}
    assert statuses(tmp_path)[0]["status"] == "finished" and statuses(tmp_path)[0]["attempts"] == 2


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failure_ends_the_sweep_where_that_is_asked_for(n_jobs: int, toy: Toy, tmp_path: Path) -> None:
    options = ["tags=[fail]", "seed=1,2,3,4,5,6", f"hydra.sweeper.n_jobs={n_jobs}"]
    result = toy(*options, "hydra.sweeper.fail_fast=true", status=75)
    assert len(starts(tmp_path)) <= n_jobs
    assert "The sweep has not ended; to resume: python" in result.stderr
    toy(*options, status=1)
    assert starts(tmp_path) == dict.fromkeys(range(6), 1)


def test_jobs_at_once_share_the_cores_and_their_processes(toy: Toy, tmp_path: Path) -> None:
    result = toy("seed=1,2,3,4,5,6", "hydra.sweeper.n_jobs=2")
    lines = [path.read_text().split() for path in tmp_path.glob("sweep/*/starts.txt")]
    assert {threads for threads, _ in lines} == {"1"}  # of two cores
    assert len({process for _, process in lines}) <= 2
    assert "[6/6]" in result.stderr and "spoken" not in result.stdout
    assert (tmp_path / "sweep" / "0" / "console.log").read_text() == "spoken\n"


@pytest.mark.parametrize(("tag", "reason"), [("exit", "with status 3"), ("segfault", "by SIGSEGV")])
def test_the_death_of_a_process_is_the_failure_of_its_job_alone(
    tag: str, reason: str, toy: Toy, tmp_path: Path
) -> None:
    toy("tags=[dev],[" + tag + "]", "seed=1,2", "hydra.sweeper.n_jobs=2", status=1)
    found = {number: facts["status"] for number, facts in statuses(tmp_path).items()}
    assert found == {0: "finished", 1: "finished", 2: "failed", 3: "failed"}
    error = statuses(tmp_path)[2]["error"]
    assert error.startswith(f"The process of this job ended {reason}; its output is in ")


def test_a_job_that_was_killed_is_run_again(toy: Toy, tmp_path: Path) -> None:
    toy("tags=[killed_once]", "seed=1,2", "hydra.sweeper.n_jobs=2", status=75)
    assert starts(tmp_path) == {0: 1, 1: 1}
    toy("tags=[killed_once]", "seed=1,2")
    assert starts(tmp_path) == {0: 2, 1: 2}
    assert {facts["status"] for facts in statuses(tmp_path).values()} == {"finished"}


def test_a_sweep_is_named_on_the_command_line_and_runs_once_at_a_time(tmp_path: Path) -> None:
    options = [f"paths.log_dir={tmp_path}", "sweep=mine", "tags=[wait],[dev]"]
    command = [sys.executable, TOY, "-m", *options]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    job = tmp_path / "train" / "multiruns" / "mine" / "0"
    while first.poll() is None and not (job / "starts.txt").is_file():
        time.sleep(0.05)
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 1
    assert second.stderr == f"ERROR: {job.parent} is in use: another process runs this sweep.\n"
    os.killpg(first.pid, 9)
    first.wait()
    assert json.loads((job / "job.json").read_text())["overrides"][1:] == ["tags=[wait]"]  # and no folder of its name


WRONG = {
    "seed=interval(1,3)": "seed=interval(1,3): a grid needs single values; ranges are for hydra/sweeper=optuna.",
    "seed=range(3,3)": "seed=range(3,3) is empty: it lists no value.",
    "model.optimizer.l=0.1,0.2": "There is no model.optimizer.l in the configuration. Did you mean model.optimizer.lr?"
    " To add a new key, write +model.optimizer.l=…",
    "sweep=": "sweep= is empty: use sweep=<name>, or leave it out for a folder named by the time.",
    "sweep=../../out": "sweep=../../out is not a name: for a folder elsewhere, use hydra.sweep.dir=<folder>.",
    "sweep=..": "sweep=.. is not a name: for a folder elsewhere, use hydra.sweep.dir=<folder>.",
    "seed=1,": "seed=1, cannot be parsed: write key=value, or key=a,b for a sweep, with quotes around text with",
    "trainer=ddp_sim": "trainer.strategy=ddp: a job of a sweep is one process; sweep with trainer=cpu or trainer=gpu, "
    "or start the runs one by one: for seed in 1 2 3; do python src/train.py trainer=ddp seed=$seed; done",
    "hydra.sweeper.n_jobs=1000": "n_jobs=1000: this machine has the cores for 1 to ",
}


@pytest.mark.parametrize("argument", WRONG)
def test_a_mistake_is_answered_before_anything_runs(argument: str, toy: Toy, tmp_path: Path) -> None:
    result = toy("tags=[a],[b]", argument, status=1)
    assert WRONG[argument] in result.stderr and len(result.stderr.splitlines()) == 1
    assert not starts(tmp_path)


def test_a_figure_of_a_test_that_is_left_out_is_not_optimised(toy: Toy, tmp_path: Path) -> None:
    result = toy("seed=1,2", "test=false", "optimized_metric=test/acc", status=1)
    assert (
        "optimized_metric=test/acc needs the test, which test=false skips; optimise a validation metric"
        in result.stderr
    )
    assert not starts(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        ["seed=1,2", "hydra.sweeper.n_jobs=1000"],
        ["model=mnist_sdn_8k,mnist_sdn_9k"],
        ["seed=interval(1,3)"],
        ["seed=1,2", "sweep=../../out"],
        ["model=mnist_sdn_8k,mnist_sdn_9k", "sweep=named"],
        ["model=mnist_sdn_8k,mnist_sdn_9k", "hydra/sweeper=optuna", "optimized_metric=val/acc"],
        ["seed=1", "hydra/sweeper=optuna", "optimized_metric=val/acc"],
        ["seed=1,2", "hydra/sweeper=optuna", "optimized_metric=val/acc", "hydra.sweeper.storage=nothing://x"],
    ],
)
def test_a_sweep_that_is_refused_leaves_no_folder(options: list[str], tmp_path: Path) -> None:
    command = [sys.executable, TOY, "-m", f"paths.log_dir={tmp_path}/logs", *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("ERROR: ") and len(result.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.rglob("*")} <= {"logs", "train", "multiruns"}


def test_an_empty_folder_that_the_user_made_stays(tmp_path: Path) -> None:
    command = [sys.executable, TOY, "-m", f"hydra.sweep.dir={tmp_path}", "model=mnist_sdn_8k,mnist_sdn_9k"]
    assert subprocess.run(command, capture_output=True).returncode == 1 and tmp_path.is_dir()


def test_a_folder_of_another_sweep_is_refused(toy: Toy, tmp_path: Path) -> None:
    toy("seed=1,2")
    result = toy("model.optimizer.lr=0.1,0.2", status=1)
    assert result.stderr == (
        f"ERROR: {tmp_path / 'sweep'} belongs to another sweep, train over seed; this one is train over "
        "model.optimizer.lr: choose another folder.\n"
    )
    (tmp_path / "sweep" / "sweep.json").unlink()
    result = toy("seed=1,2", status=1)
    assert "holds other runs and no sweep.json: choose another folder for this sweep." in result.stderr


@pytest.mark.parametrize(("launcher", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_launcher_whose_extra_is_missing(launcher: str, package: str, tmp_path: Path) -> None:
    program = (
        f"import sys, runpy; sys.modules['hydra_plugins.hydra_{package}_launcher'] = None; "
        f"sys.argv = [{TOY!r}, *sys.argv[1:]]; runpy.run_path({TOY!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", program, "-m", "seed=1,2", f"hydra/launcher={launcher}"]
    result = subprocess.run([*command, f"hydra.sweep.dir={tmp_path}"], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"ERROR: hydra/launcher={launcher} needs a package that is not installed: pip install -e '.[{launcher}]'"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_sweep_and_its_processes(number: int, tmp_path: Path) -> None:
    options = [f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=1,2,3", "hydra.sweeper.n_jobs=2"]
    command = [sys.executable, TOY, "-m", *options]
    process = subprocess.Popen([*command, "tags=[wait]"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while process.poll() is None and len(starts(tmp_path)) < 2:
        time.sleep(0.05)
    pids = [int(path.read_text().split()[1]) for path in tmp_path.glob("sweep/*/starts.txt")]
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "the running jobs save their state" in errors and "The sweep has not ended; to resume: python" in errors
    assert starts(tmp_path) == {0: 1, 1: 1} and not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert {facts["status"] for facts in statuses(tmp_path).values()} == {"interrupted"}
    result = subprocess.run([*command, "tags=[dev]"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_job_whose_folder_hydra_cannot_write_is_told_in_a_sentence(n_jobs: int, toy: Toy, tmp_path: Path) -> None:
    toy("seed=1,2")
    folder = tmp_path / "sweep" / "0"
    (folder / "status.json").unlink()
    shutil.rmtree(folder / ".hydra")
    (folder / ".hydra").touch()  # which nobody can write to
    result = toy("seed=1,2", f"hydra.sweeper.n_jobs={n_jobs}", status=1)
    assert "Traceback" not in result.stdout + result.stderr
    assert "ERROR: [Errno 17] File exists" in result.stderr


def test_a_signal_ends_a_job_of_this_process_wherever_it_is(tmp_path: Path) -> None:
    command = [sys.executable, TOY, "-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=1,2", "tags=[wait]"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while process.poll() is None and not starts(tmp_path):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("ERROR: The sweep has not ended; to resume: python ")
    assert statuses(tmp_path)[0]["status"] == "interrupted" and starts(tmp_path) == {0: 1}


def test_the_first_signal_ends_a_sweep_that_waits_for_the_jobs_of_others(tmp_path: Path) -> None:
    (job,) = Sweep(tmp_path / "sweep", "train", ["seed"]).jobs_for([["seed=1"]])
    update_status(job.folder, status="running", pid=1, host="here")
    command = [sys.executable, TOY, "-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=1"]
    with locked(job.folder):
        process = subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "Waiting for job 0" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 75 and said.startswith("ERROR: The sweep has not ended; to resume: python ")
    assert len(said.splitlines()) == 1 and not starts(tmp_path) and statuses(tmp_path)[0]["status"] == "running"


def test_a_second_signal_ends_a_sweep_and_its_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, TOY, "-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", "seed=1,2", "tags=[stubborn]"]
    process = subprocess.Popen(
        [*command, "hydra.sweeper.n_jobs=2"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while process.poll() is None and len(starts(tmp_path)) < 2:
        time.sleep(0.05)
    pids = [int(path.read_text().split()[1]) for path in tmp_path.glob("sweep/*/starts.txt")]
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    assert "the running jobs save their state" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and errors.startswith("ERROR: The sweep has not ended; to resume: python ")
    assert {facts["status"] for facts in statuses(tmp_path).values()} == {"interrupted"}
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
