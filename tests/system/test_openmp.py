"""Waiting threads spin on a quiet machine and sleep on a busy one, unless the user chooses otherwise."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from src.config.paths import ROOT
from src.system import openmp
from src.system.openmp import (
    POLICY,
    QUIET_INTERVALS,
    SPINNING,
    Throttle,
    let_waiting_threads_yield,
    run_delays,
    watch_contention,
)


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


def test_the_throttle_follows_how_long_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    monkeypatch.setattr(Throttle, "throttle", lambda self: setattr(self, "_release", threading.Event()))
    monkeypatch.setattr(Throttle, "release", lambda self: setattr(self, "_release", None))
    monkeypatch.setattr(openmp, "run_delays", dict)
    throttle = Throttle()
    seconds = [0.0, 0.1, 0.4, 0.01, 0.1, *[0.01] * QUIET_INTERVALS, 0.4]  # waited by two threads, within 1 s each
    total = 0
    for waited in seconds:
        total += int(waited * 1e9)
        throttle.update({"1": total // 2, "2": total - total // 2}, 1.0)
        states.append(throttle.throttled)
    assert states == [False, False, True, True, True, *[True] * (QUIET_INTERVALS - 1), False, True]


def test_a_new_thread_and_one_that_has_ended_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "run_delays", lambda: {"1": 0, "2": 10**9})
    throttle = Throttle()
    throttle.update({"1": 0, "3": 10**9}, 1.0)
    assert not throttle.throttled


@pytest.mark.skipif(not run_delays(), reason="this system does not count how long threads wait")
def test_waiting_threads_sleep_while_throttled_and_spin_again_afterwards() -> None:
    program = (
        "import os, time\n"
        "os.environ['GOMP_SPINCOUNT'] = 'infinite'\n"  # without the throttle none ever sleeps
        "import torch\n"
        "from src.system.openmp import TASKS, Throttle, libgomp, run_delays\n"
        "if libgomp() is None: raise SystemExit('no libgomp')\n"
        "torch.set_num_threads(2)\n"
        "x = torch.ones(2**18)\n"
        "x.add_(1)\n"
        "workers = set(run_delays()) - {str(os.getpid())}\n"
        "def slept():\n"
        "    lines = [line for name in workers for line in (TASKS / name / 'status').read_text().splitlines()]\n"
        "    return sum(int(line.split()[1]) for line in lines if line.startswith('voluntary'))\n"
        "def regions():\n"
        "    before = slept()\n"
        "    for _ in range(20): x.add_(1); time.sleep(0.005)\n"
        "    return slept() - before\n"
        "throttle = Throttle()\n"
        "print(regions())\n"
        "throttle.throttle(); print(regions())\n"
        "throttle.release()\n"
        "while len(run_delays()) > len(workers) + 1: time.sleep(0.01)\n"
        "x.add_(1); print(regions())\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    if "no libgomp" in result.stderr:
        pytest.skip("torch runs on another OpenMP runtime here")
    spinning, throttled, again = (int(line) for line in result.stdout.split())
    assert spinning == again == 0, result.stderr
    assert throttled >= 10


@pytest.mark.parametrize("count, watched", [(SPINNING["GOMP_SPINCOUNT"], True), ("300000", False), (None, False)])
def test_contention_is_watched_unless_the_user_has_said_how_to_wait(
    monkeypatch: pytest.MonkeyPatch, count: str | None, watched: bool
) -> None:
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self.name))
    monkeypatch.setattr(openmp, "run_delays", lambda: {"1": 0})
    if count is None:
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    else:
        monkeypatch.setenv("GOMP_SPINCOUNT", count)
    watch_contention.__wrapped__()
    assert bool(started) == watched
