"""Waiting threads yield unless the user wants otherwise, in the program and in all that it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.utils import openmp
from src.utils.cli import ROOT
from src.utils.openmp import POLICY, SPINNING, let_waiting_threads_yield


@pytest.fixture(autouse=True)
def before_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "sys", type("sys", (), {"modules": {}}))


def test_both_runtimes_are_told() -> None:
    environment: dict[str, str] = {}
    let_waiting_threads_yield(environment)
    assert environment == SPINNING


@pytest.mark.parametrize("name", [*SPINNING, POLICY])
def test_what_the_user_has_set_stays(name: str) -> None:
    environment = {name: "mine"}
    let_waiting_threads_yield(environment)
    assert environment[name] == "mine"
    assert name != POLICY or environment == {POLICY: "mine"}


def test_after_the_import_of_torch_it_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "sys", type("sys", (), {"modules": {"torch": None}}))
    environment: dict[str, str] = {}
    let_waiting_threads_yield(environment)
    assert environment == {}


def test_a_program_sets_it_before_it_imports_torch(tmp_path: Path) -> None:
    watch = (
        "import os, sys, builtins\n"
        "real = builtins.__import__\n"
        "def watched(name, *rest, **options):\n"
        "    if name == 'torch' and 'torch' not in sys.modules:\n"
        "        print('SPIN', os.environ.get('GOMP_SPINCOUNT'), flush=True); os._exit(0)\n"
        "    return real(name, *rest, **options)\n"
        "builtins.__import__ = watched\n"
        "import runpy\n"
        "sys.argv = ['src/train.py', 'data=synthetic', 'trainer.max_epochs=1', 'hydra.run.dir=' + sys.argv[1]]\n"
        "runpy.run_path('src/train.py', run_name='__main__')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in (*SPINNING, POLICY)}
    result = subprocess.run(
        [sys.executable, "-c", watch, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert f"SPIN {SPINNING['GOMP_SPINCOUNT']}" in result.stdout, result.stderr
