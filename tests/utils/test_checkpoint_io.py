"""Checkpoints are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
import torch

from src.utils import checkpoint_io
from src.utils.checkpoint_io import SafeCheckpointIO


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_checkpoint_reads_back_and_the_last_but_one_is_kept(tmp_path: Path) -> None:
    io, last = SafeCheckpointIO(), tmp_path / "new" / "last.ckpt"
    for number in range(3):
        io.save_checkpoint({"number": number}, last)
    io.save_checkpoint({"number": 9}, last.with_name("epoch_001.ckpt"))
    assert io.load_checkpoint(last) == {"number": 2}
    assert io.load_checkpoint(last.with_name("previous.ckpt")) == {"number": 1}
    assert names(last.parent) == {"last.ckpt", "previous.ckpt", "epoch_001.ckpt"}


@pytest.mark.parametrize("fault", ["fsync", "save"])
def test_a_write_that_fails_leaves_the_former_file(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path = SafeCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"number": 1}, path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if fault == "fsync":
        monkeypatch.setattr(checkpoint_io.os, "fsync", fail)
    else:
        monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match=r"last.ckpt cannot be written \(No space left on device\); .* before stay"):
        io.save_checkpoint({"number": 2}, path)
    assert names(tmp_path) == {"last.ckpt"} and io.load_checkpoint(path) == {"number": 1}


def test_code_is_refused_whatever_the_caller_says(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"x": Payload()}, tmp_path / "a.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()
