"""Fixtures shared by the tests of sweeps: the program `toy.py`, started in its own folder."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.programs import run
from tests.small_run import data, model, trainer  # noqa: F401  # fixtures

TOY = str(Path(__file__).parent / "toy.py")
Toy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Run a sweep of toys in `<tmp_path>/sweep`."""

    def toy_(*arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        result = run(TOY, "-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", *arguments, timeout=120)
        assert result.returncode == status, result.stdout + result.stderr
        return result

    return toy_


def statuses(folder: Path) -> dict[int, dict[str, Any]]:
    """The status that each job of a sweep reports."""
    return {int(path.parent.name): json.loads(path.read_text()) for path in folder.glob("sweep/*/status.json")}


def starts(folder: Path) -> dict[int, int]:
    """How often each job was started."""
    files = folder.glob("sweep/*/starts.txt")
    return {int(path.parent.name): len(path.read_text().splitlines()) for path in files}


def overrides(folder: Path) -> dict[int, list[str]]:
    """The overrides that identify each job."""
    files = folder.glob("sweep/*/job.json")
    return {int(path.parent.name): json.loads(path.read_text())["overrides"] for path in files}
