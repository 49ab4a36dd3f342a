"""Checkpoints are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from src.run import checkpoint_io
from src.run.checkpoint_io import SafeCheckpointIO
from src.run.checkpoints import check_fits, read_checkpoint
from src.run.run import Run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_checkpoint_reads_back_and_the_last_but_one_is_kept(tmp_path: Path) -> None:
    io, last = SafeCheckpointIO(), tmp_path / "new" / "last.ckpt"
    for number in range(3):
        io.save_checkpoint({"state_dict": {}, "number": number}, last)
    io.save_checkpoint({"state_dict": {}, "number": 9}, last.with_name("epoch_001.ckpt"))
    assert io.load_checkpoint(last) == {"state_dict": {}, "number": 2}
    assert io.load_checkpoint(last.with_name("previous.ckpt")) == {"state_dict": {}, "number": 1}
    assert names(last.parent) == {"last.ckpt", "previous.ckpt", "epoch_001.ckpt"}


@pytest.mark.parametrize("fault", ["fsync", "save"])
def test_a_write_that_fails_leaves_the_former_file(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path = SafeCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"state_dict": {}, "number": 1}, path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if fault == "fsync":
        monkeypatch.setattr(checkpoint_io.os, "fsync", fail)
    else:
        monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(
        OSError, match=r"last.ckpt cannot be written \(No space left on device\); earlier checkpoints are kept"
    ):
        io.save_checkpoint({"state_dict": {}, "number": 2}, path)
    assert names(tmp_path) == {"last.ckpt"} and io.load_checkpoint(path) == {"state_dict": {}, "number": 1}


def test_code_is_refused_whatever_the_caller_says(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"x": Payload()}, tmp_path / "a.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


STATE = {
    "dirpath": "/elsewhere/checkpoints",
    "best_model_score": 1.0,
    "best_model_path": "/elsewhere/checkpoints/epoch_001.ckpt",
    "kth_best_model_path": "/elsewhere/checkpoints/epoch_001.ckpt",
    "kth_value": 1.0,
    "best_k_models": {"/elsewhere/checkpoints/epoch_001.ckpt": 1.0},
    "last_model_path": "",
}


def load_with(path: Path, **changes: object) -> dict[str, object]:
    state = {**STATE, **changes}
    torch.save({"state_dict": {}, "callbacks": {"ModelCheckpoint": state, "other": 3}}, path)
    loaded: dict[str, object] = SafeCheckpointIO().load_checkpoint(path)["callbacks"]["ModelCheckpoint"]
    return loaded


def test_a_checkpoint_speaks_of_its_own_folder_wherever_that_is_now(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    state = load_with(tmp_path / "link" / "last.ckpt")
    best = str(tmp_path.resolve() / "real" / "epoch_001.ckpt")
    assert (state["best_model_path"], state["kth_best_model_path"], state["last_model_path"]) == (best, best, "")
    assert state["dirpath"] == str(tmp_path.resolve() / "real") and state["best_k_models"] == {best: 1.0}
    ours = ModelCheckpoint(tmp_path / "link", monitor="x")
    ours.load_state_dict(state)
    assert ours.best_k_models == {best: 1.0}, "Lightning calls the folder otherwise, and goes on from nothing"
    state = load_with(tmp_path / "last.ckpt", best_model_path="../../x.ckpt", best_k_models={"/etc/../y.ckpt": 0.0})
    assert state["best_model_path"] == str(tmp_path / "x.ckpt")
    assert state["best_k_models"] == {str(tmp_path / "y.ckpt"): 0.0}


HOSTILE = {
    "a folder above": {"best_k_models": {"/run/checkpoints/..": 0.0}},
    "a folder further up": {"kth_best_model_path": "/run/checkpoints/../../.."},
    "another file": {"last_model_path": "/home/me/thesis.tex"},
    "a list": {"best_k_models": ["a.ckpt"]},
    "a number": {"best_model_path": 3},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_checkpoint_that_speaks_of_anything_else_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"last.ckpt is refused: the state of its ModelCheckpoint is damaged \("):
        load_with(tmp_path / "last.ckpt", **HOSTILE[name])
    lacking = {key: value for key, value in STATE.items() if key != "best_k_models"}
    torch.save({"state_dict": {}, "callbacks": {"ModelCheckpoint": lacking}}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="is refused"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


def test_deleting_a_checkpoint_deletes_no_folder_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "canary").touch()
    (tmp_path / "a.ckpt").symlink_to("canary")
    for name in ("a.ckpt", "b.ckpt"):  # these files do not exist
        SafeCheckpointIO().remove_checkpoint(tmp_path / name)
    with pytest.raises(OSError, match="folder"):
        SafeCheckpointIO().remove_checkpoint(tmp_path / "folder")
    assert names(tmp_path) == {"folder", "canary"}


def test_links_of_the_names_of_checkpoints_are_not_followed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("mine")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("last.ckpt", "previous.ckpt", "epoch_000.ckpt", f".last.ckpt.{os.getpid()}.tmp"):
        (folder / name).symlink_to(canary)
    io = SafeCheckpointIO()
    for _ in range(3):
        io.save_checkpoint({"state_dict": {}, "number": 1}, folder / "last.ckpt")
        io.save_checkpoint({"state_dict": {}, "number": 1}, folder / "epoch_000.ckpt")
    assert canary.read_text() == "mine" and not any(path.is_symlink() for path in folder.iterdir())


def test_a_resumed_run_reads_its_checkpoint_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": {"weight": torch.zeros(3)}, "callbacks": {}}, path)
    files: list[Path] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: (files.append(file), load(file, **options))[1])
    assert Run(tmp_path).resumable_checkpoint() == path
    check_fits(path, torch.nn.ParameterDict({"weight": torch.ones(3)}))
    checkpoint = SafeCheckpointIO().load_checkpoint(path)
    assert files == [path]
    checkpoint["state_dict"]["weight"].fill_(7)  # as an optimizer would; the next read must return the file's values
    assert read_checkpoint(path)["state_dict"]["weight"].tolist() == [0, 0, 0]
    torch.save({"state_dict": {"weight": torch.ones(3)}}, path)  # another version of the same size
    assert read_checkpoint(path)["state_dict"]["weight"].tolist() == [1, 1, 1]
