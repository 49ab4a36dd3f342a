"""Training in the processes of torchrun: they reach the results of one process, and only one of them prints."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from benchmarks.sweep_kills import process_tree
from src.config.paths import ROOT
from src.run.checkpoints import read_checkpoint
from src.train import train

# plain SGD: Adam takes full steps where a gradient is 0 up to rounding, as for a bias before BatchNorm
COMMON = (
    "model=mnist_sdn_8k",  # with BatchNorm
    "model/optimizer=sgd",
    "model.optimizer.lr=0.001",  # however many epochs there were before the signal, rounding does not grow
    "model/scheduler=none",
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.train_size=325",
    "data.val_size=51",
    "data.test_size=101",  # one process tests 51 images, the other 50
    "data.batch_size=32",
    "callbacks.early_stopping=null",
)


def start(
    *arguments: str, launcher: tuple[str, ...] = ("--standalone", "--nproc-per-node=2")
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, str(ROOT / "src" / "train.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def own_words(errors: str) -> str:
    """The output of the processes themselves, without torchrun's trace after it."""
    return errors.partition("Traceback (most recent call last)")[0]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A run whose torchrun was terminated: the folder of its logs, torchrun's exit status, and its output."""
    folder = tmp_path_factory.mktemp("torchrun")
    process = start(*COMMON, "trainer=ddp", "seed=null", "trainer.max_epochs=100000", f"paths.log_dir={folder}")
    while not list(folder.rglob("last.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    return folder, process.returncode, output + errors


def test_a_run_that_is_stopped_has_one_folder_and_says_once_how_to_go_on(stopped: tuple[Path, int, str]) -> None:
    folder, status, output = stopped
    (run,) = (folder / "train" / "runs").iterdir()
    assert status != 0
    assert output.count(f"torchrun --nproc-per-node=2 src/train.py resume={run}") == 1, output
    assert (run / "train.log").read_text().count("to resume") == 1
    assert json.loads((run / "run.json").read_text())["processes"] == 2


def test_resumed_on_two_nodes_it_finds_what_one_process_finds(
    stopped: tuple[Path, int, str], compose: Callable[..., DictConfig]
) -> None:
    (run,) = (stopped[0] / "train" / "runs").iterdir()
    seed = json.loads((run / "run.json").read_text())["seed"]
    epochs = read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] + 2
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = ("--master-addr=127.0.0.1", f"--master-port={free.getsockname()[1]}")
    one_each = ("--nnodes=2", "--nproc-per-node=1", *address)
    resumed = (f"resume={run}", f"trainer.max_epochs={epochs}")
    nodes = [start(*resumed, launcher=(*one_each, f"--node-rank={rank}")) for rank in (0, 1)]
    for node in nodes:
        _, errors = node.communicate(timeout=300)
        assert node.returncode == 0, errors
    assert [path.name for path in (stopped[0] / "train" / "runs").iterdir()] == [run.name]
    events = [path.name.removesuffix(".hparams") for path in (run / "tensorboard").glob("events.*")]
    writers = {name.split(".")[-2] for name in events}
    assert len(writers) == 2  # process numbers: of the first process before and after

    together = json.loads((run / "metrics.json").read_text())
    alone, objects = train(compose(*COMMON, "trainer=cpu", f"seed={seed}", f"trainer.max_epochs={epochs}"))
    for name in ("train/loss", "train/acc", "val/loss", "val/acc", "val/acc_best", "test/loss", "test/acc"):
        assert together[name] == pytest.approx(alone[name].item(), rel=1e-4), name
    (best,) = (run / "checkpoints").glob("epoch_*.ckpt")
    weights = read_checkpoint(best)["state_dict"]  # those that the model of `alone` was tested with
    for name, value in objects["model"].state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)

    tested, _ = train(compose(*COMMON, "trainer=cpu", "train=false", f"ckpt_path={best}"))
    assert tested["test/acc"] == together["test/acc"]
    assert tested["test/loss"] == pytest.approx(together["test/loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("model=mnist_sdn_9k", "There is no model=mnist_sdn_9k. Did you mean mnist_sdn_8k"),  # before the run's folder
        ("data.batch_size=33", "batch_size=33 must be a multiple of the 2 processes."),  # when all is built
    ],
)
def test_a_mistake_is_told_once(mistake: str, sentence: str, tmp_path: Path) -> None:
    process = start(*COMMON, "trainer=ddp", f"paths.log_dir={tmp_path}", mistake)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert own_words(errors).count(f"ERROR: {sentence}") == own_words(errors).count("ERROR") == 1, errors
    assert not re.search(r"/src/(run|cli|config|system)/", errors)  # no trace of ours


def test_processes_that_are_started_again_go_on_with_their_run(tmp_path: Path) -> None:
    """Torchrun ends all processes when one dies, and starts as many again."""
    launcher = ("--standalone", "--nproc-per-node=2", "--max-restarts=1", "--monitor-interval=0.1")
    options = (*COMMON, "trainer=ddp", "trainer.max_epochs=30", f"paths.log_dir={tmp_path}")
    process = start(*options, launcher=launcher)
    while not list(tmp_path.rglob("last.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    victim = max(process_tree(process.pid) - {process.pid})
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (run,) = (tmp_path / "train" / "runs").iterdir()
    assert len(json.loads((run / "run.json").read_text())["resumed"]) == 1
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] == 29 and (run / "metrics.json").is_file()


def test_a_sweep_is_refused_with_a_way_out(tmp_path: Path) -> None:
    process = start("-m", "seed=1,2", f"paths.log_dir={tmp_path}")
    _, errors = process.communicate(timeout=120)
    sentence = (
        "ERROR: -m: torchrun is for one run; leave out -m and start it for each: for seed in 1 2 3; do "
        "torchrun --nproc-per-node=2 src/train.py trainer=ddp seed=$seed; done"
    )
    assert process.returncode != 0 and own_words(errors).count(sentence) == 1, errors
