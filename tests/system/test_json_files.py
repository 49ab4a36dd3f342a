"""Files are written whole or not at all, and never through a link."""

import errno
import os
from pathlib import Path

import pytest

from src.system import json_files
from src.system.json_files import read_json, replacing, write_json, write_whole


def test_a_link_is_replaced_and_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    canary.write_text("mine")
    monkeypatch.setattr(json_files.secrets, "token_hex", lambda _: "guessed")
    for name in ("status.json", f".guess.json.{os.getpid()}.tmp"):
        (tmp_path / name).symlink_to(canary)
    write_json(tmp_path / "status.json", {"a": 1})
    write_json(tmp_path / "guess.json", {"a": 1})
    (tmp_path / f".guess.json.{os.getpid()}.guessed.tmp").symlink_to(canary)
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "guess.json", {"a": 2})
    assert canary.read_text() == "mine" and not (tmp_path / "status.json").is_symlink()
    assert read_json(tmp_path / "status.json") == read_json(tmp_path / "guess.json") == {"a": 1}


def test_a_write_that_fails_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "former")
    with pytest.raises(OSError, match="No space left"), replacing(path, "x") as file:
        file.write("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "former" and list(tmp_path.iterdir()) == [path]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask  # for others to read, as any file
