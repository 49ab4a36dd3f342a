"""Resuming a run is different from starting a new one from its weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from src.run.checkpoints import check_training_left, read_checkpoint
from src.run.init_from import load_matching_weights
from src.train import train
from tests.conftest import TINY_RUN
from tests.programs import run

SMALL = (*TINY_RUN, "data=synthetic", "data.channels=1", "data.image_size=28", "model=mnist_cnn_8k", "logger=none")
UNTRAINED = ("train=false", "test=false")
HEAD = {"net.head.weight", "net.head.bias"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs."""
    folder = tmp_path_factory.mktemp("source")
    result = run("train", *SMALL, "trainer.max_epochs=3", "seed=1", f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


def test_what_fits_is_loaded_and_a_head_of_another_size_is_new(
    source: Path, compose: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*SMALL, "data.num_classes=4", *UNTRAINED]
    fresh = train(compose(*options))[1]["model"].state_dict()
    (best,) = (source / "checkpoints").glob("epoch_*.ckpt")
    theirs = read_checkpoint(best)["state_dict"]
    for init_from in (source, best):
        capsys.readouterr()
        ours = train(compose(*options, f"init_from={init_from}"))[1]["model"].state_dict()
        for name, value in ours.items():
            assert torch.equal(value, fresh[name] if name in HEAD else theirs[name]), name
        rows = {words[1]: words[3:] for line in capsys.readouterr().out.splitlines() if (words := line.split())[1:]}
        assert rows["loaded"][0] == str(len(theirs) - 2)
        assert rows["new"][0] == rows["unused"][0] == "2"
        assert "net.head.weight" in rows["new"] and "net.head.weight" in rows["unused"]


def test_it_begins_at_epoch_0(source: Path, compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    figures, objects = train(compose(*SMALL, "data/augmentation=digits", f"init_from={source}"))
    assert objects["trainer"].global_step == 3 and figures["epochs"] == 1
    assert (tmp_path / "checkpoints" / "epoch_000.ckpt").is_file()


def test_weights_of_which_nothing_fits_are_refused(source: Path, compose: Callable[..., DictConfig]) -> None:
    with pytest.raises(ValueError, match=r"init_from=.*: none of its weights matches a name and shape of the model"):
        train(compose(*SMALL, "model=mnist_sdn_8k", f"init_from={source}"))


def test_going_on_and_starting_anew_at_once_is_refused(source: Path, compose: Callable[..., DictConfig]) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        train(compose(*SMALL, f"init_from={source}", f"ckpt_path={source}/checkpoints/last.ckpt"))


@pytest.mark.parametrize("limit", ["trainer.max_epochs=2", "trainer.max_epochs=3", "trainer.max_steps=9"])
def test_a_checkpoint_with_nothing_left_to_train_is_refused(
    limit: str, source: Path, compose: Callable[..., DictConfig]
) -> None:
    last = source / "checkpoints" / "last.ckpt"
    epochs = ["trainer.max_epochs=4"] if "steps" in limit else []
    with pytest.raises(ValueError, match=rf"3 epochs and 9 steps.*\({limit}\): raise .*init_from={last}"):
        train(compose(*SMALL, *epochs, limit, f"ckpt_path={last}"))
    figures, _ = train(compose(*SMALL, limit, f"ckpt_path={last}", "train=false"))  # it can be tested
    assert "test/acc" in figures


def test_a_checkpoint_of_weights_alone_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"only weights: start a new run with init_from="):
        check_training_left(path, 3, -1)


def test_a_run_that_was_stopped_early_is_not_gone_on_with(
    source: Path, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    options = (*SMALL, "trainer.max_epochs=9", "callbacks.early_stopping.patience=1", "model.optimizer.lr=0")
    train(compose(*options, f"paths.output_dir={tmp_path}/stopped", "test=false"))
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"epochs and .*early stopping or a time budget.*init_from="):
        train(compose(*options, f"ckpt_path={last}"))


def test_a_run_that_began_with_weights_is_resumed_from_its_own_checkpoint_and_tells_its_log(
    source: Path, tmp_path: Path
) -> None:
    weights, folder = shutil.copytree(source, tmp_path / "weights"), tmp_path / "run"
    first = run("train", *SMALL, f"init_from={weights}", f"hydra.run.dir={folder}")
    assert first.returncode == 0, first.stderr
    tensors = len(read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"])
    shutil.rmtree(weights)
    second = run("train", f"resume={folder}", "trainer.max_epochs=2")
    assert second.returncode == 0, second.stderr
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["epochs"] == 2

    log = (folder / "train.log").read_text()
    for words in (
        f"run directory: {folder}",
        "data: synthetic (SyntheticDataModule)",
        "model: mnist_cnn_8k (SimpleCNN), 7,978 parameters",
        f"loaded {tensors} tensors",
        f"best: epoch {figures['best_epoch']}  val/acc {figures['val/acc_best']:.4f}  checkpoints/epoch_00",
        f"test: test/loss {figures['test/loss']:.4f}  test/acc {figures['test/acc']:.4f}",
    ):
        assert words in log, words
    for result, line in ((first, "epoch 1/1  "), (second, "epoch 2/2  ")):
        assert log.count(line) == 1
        assert result.stdout.count(line) == 1  # the terminal gets it from the progress bar alone
        assert "best: epoch" in result.stdout and "command:" not in result.stdout + result.stderr


def test_a_finished_run_that_is_resumed_says_so_and_gives_its_figures_again(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "run")
    before = json.loads((folder / "metrics.json").read_text())
    result = run("train", f"resume={folder}")
    assert result.returncode == 0, result.stderr
    sentence = (
        "This run has finished already, after 3 epochs and 9 steps (trainer.max_epochs=3): nothing is left to train."
    )
    assert result.stderr.count(sentence) == 1
    assert json.loads((folder / "metrics.json").read_text()) == before
    longer = run("train", f"resume={folder}", "trainer.max_epochs=4", "test=false")
    assert longer.returncode == 0 and "finished already" not in longer.stderr


def test_names_of_tensors_are_printed_as_they_are_but_for_what_a_terminal_obeys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Linear(3, 2)
    torch.save({"state_dict": {**model.state_dict(), "[/x]\x1b[2J": torch.zeros(1)}}, tmp_path / "[red]odd.ckpt")
    load_matching_weights(model, tmp_path / "[red]odd.ckpt")
    table = capsys.readouterr().out
    assert "[/x]?[2J (1,)" in table and "[red]odd.ckpt" in table.replace("\n", "") and "\x1b" not in table


def test_numbers_of_another_kind_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Linear(3, 2)
    weights = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2, dtype=torch.complex64)}
    torch.save({"state_dict": weights}, tmp_path / "weights.ckpt")
    load_matching_weights(model, tmp_path / "weights.ckpt")
    assert not model.weight.any() and model.bias.any()
