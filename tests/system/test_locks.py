"""One process at a time works in a folder; checking a lock does not block others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.config.paths import ROOT
from src.system.locks import is_locked, locked


def test_a_folder_is_locked_for_other_processes_and_free_afterwards(tmp_path: Path) -> None:
    program = "import sys, pathlib; from src.system.locks import locked\nwith locked(pathlib.Path(sys.argv[1])): pass"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with locked(tmp_path):
        with pytest.raises(ValueError, match="in use"), locked(tmp_path):
            pass
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode != 0 and "is in use: another process is training there" in result.stderr
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_a_link_of_the_lock_s_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("mine")
    (tmp_path / ".lock").symlink_to("canary")
    with pytest.raises(ValueError, match=r"\.lock is a symbolic link"), locked(tmp_path):
        pass
    assert (tmp_path / "canary").read_text() == "mine"


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_to_the_lock_of_another_folder_is_refused_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    job = tmp_path / "0"
    job.mkdir()
    with locked(tmp_path):
        if kind == "symbolic":
            (job / ".lock").symlink_to("../.lock")
        else:
            os.link(tmp_path / ".lock", job / ".lock")
        with pytest.raises(ValueError, match=rf"0/\.lock is a {kind} link"):
            is_locked(job)
        with pytest.raises(ValueError, match=rf"0/\.lock is a {kind} link"), locked(job):
            pass


def test_looking_for_a_lock_changes_nothing(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nowhere") and not is_locked(tmp_path) and not list(tmp_path.iterdir())
    with locked(tmp_path):
        assert is_locked(tmp_path)
    before = (tmp_path / ".lock").stat()
    assert not is_locked(tmp_path) and (tmp_path / ".lock").stat().st_mtime_ns == before.st_mtime_ns


def test_who_only_looks_whether_there_is_a_lock_keeps_nobody_out(tmp_path: Path) -> None:
    look = "import pathlib; from src.system.locks import is_locked\nfor _ in range(20000): is_locked(pathlib.Path('.'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", look], cwd=tmp_path, env=environment)
    taken = 0
    while process.poll() is None:
        with locked(tmp_path):
            taken += 1
    assert taken > 100 and process.returncode == 0
