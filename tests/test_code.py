"""Format, style and types; the limits of the house."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from src.config.paths import ROOT

FILES = [
    Path(name) for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
]


@pytest.mark.parametrize(
    "command", [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]], ids=" ".join
)
def test_check_passes(command: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_rooms_import_in_one_direction() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_room_holds_a_sixth_of_the_code() -> None:
    files = {file: len(file.read_text().splitlines()) for file in (ROOT / "src").rglob("*.py")}
    lines = Counter()
    for file, length in files.items():
        # the nets are a room of their own: they know nothing of tasks
        lines["components" if file.parent.name == "components" else file.relative_to(ROOT / "src").parts[0]] += length
    assert not {room for room, length in lines.items() if 6 * length >= sum(files.values())}, lines


def test_no_large_file_no_data_no_logs_in_git() -> None:
    if not FILES:
        pytest.skip("not a git checkout")
    assert not [name for name in FILES if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 250_000]
    assert not [name for name in FILES if name.parts[0] in ("data", "logs") or name.suffix in (".ckpt", ".pt", ".gz")]


def test_every_test_draws_what_it_drew_before() -> None:
    assert random.random() == random.Random(0).random()
    assert np.random.rand() == np.random.RandomState(0).rand()
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))
