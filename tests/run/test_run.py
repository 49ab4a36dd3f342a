"""The best checkpoint of a run is the recorded one, whatever its age."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from src.run.run import Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with three checkpoints, the second of which is recorded as the best; the others are newer."""
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    for epoch in range(3):
        write(checkpoints / f"epoch_{epoch:03d}.ckpt", f"/elsewhere/checkpoints/epoch_{min(epoch, 1):03d}.ckpt")
    write(checkpoints / "last.ckpt", "/elsewhere/checkpoints/epoch_001.ckpt")
    os.utime(checkpoints / "epoch_001.ckpt", (0, 0))
    return tmp_path


def write(path: Path, best: Any) -> None:
    states = {
        "EarlyStopping{…}": {"best_score": 1},
        "ModelCheckpoint{…}": {"monitor": "val/acc", "best_model_path": best},
    }
    torch.save({"state_dict": {}, "callbacks": states}, path)


def test_the_recorded_best_is_found_though_others_are_newer_and_the_folder_was_moved(folder: Path) -> None:
    assert Run.open(folder).best_checkpoint().name == "epoch_001.ckpt"


def test_without_a_last_checkpoint_that_of_the_last_epoch_tells(folder: Path) -> None:
    (folder / "checkpoints" / "last.ckpt").unlink()
    assert Run.open(folder).best_checkpoint().name == "epoch_001.ckpt"


def test_a_single_one_is_the_best_and_needs_not_be_read(folder: Path) -> None:
    for name in ("epoch_001.ckpt", "epoch_002.ckpt"):
        (folder / "checkpoints" / name).unlink()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    assert Run.open(folder).best_checkpoint().name == "epoch_000.ckpt"


def test_a_best_one_that_is_gone_is_missed(folder: Path) -> None:
    (folder / "checkpoints" / "epoch_001.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"epoch_001.ckpt, the best checkpoint of its run, is gone"):
        Run.open(folder).best_checkpoint()


@pytest.mark.parametrize("best", ["", None, 3])
def test_a_run_that_recorded_none_asks_for_one(best: Any, folder: Path) -> None:
    write(folder / "checkpoints" / "last.ckpt", best)
    with pytest.raises(ValueError, match=r"does not say which checkpoint is the best: name one"):
        Run.open(folder).best_checkpoint()


def test_a_record_cannot_lead_out_of_the_folder(folder: Path) -> None:
    write(folder / "checkpoints" / "last.ckpt", "../../secret/epoch_000.ckpt")
    assert Run.open(folder).best_checkpoint() == folder / "checkpoints" / "epoch_000.ckpt"
