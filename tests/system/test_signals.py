"""A signal ends a program without a stack trace, at any moment."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from hydra.experimental.callback import Callback

from src.config.paths import ROOT
from src.system.signals import SHOW_CURSOR, Listener
from tests.programs import run

SHORT = (
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.train_size=160",
    "data.val_size=32",
    "data.test_size=32",
    "data.batch_size=16",
    "model=mnist_sdn_8k",
    "trainer=cpu",
    "trainer.max_epochs=1",
)
# runs a script that gets a signal when it imports a module, or when it ends
AT_IMPORT = """
import atexit, os, runpy, signal, sys
moment, number, *sys.argv = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
if moment == "exit":
    atexit.register(os.kill, os.getpid(), number)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Moment(L.Callback):
    """Send this process a signal when Lightning calls a hook for the first time."""

    def __init__(self, hook: str, number: int) -> None:
        self.numbers = [number]
        setattr(self, hook, lambda *_, **__: self.numbers and os.kill(os.getpid(), self.numbers.pop()))


class HydraMoment(Callback):
    """Send this process a signal when Hydra calls a hook."""

    def __init__(self, hook: str, number: int) -> None:
        setattr(self, hook, lambda **_: os.kill(os.getpid(), number))


def interrupted(
    moment: str, number: int, *arguments: str, program: str = "train"
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", AT_IMPORT, moment, str(number), str(ROOT / "src" / f"{program}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=listens_to_ctrl_c)


def listens_to_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it


@pytest.mark.parametrize("program", ["train", "eval", "export", "predict", "benchmark", "compare", "describe"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_listens_before_it_imports_anything(program: str, number: int) -> None:
    result = interrupted("omegaconf", number, "--help", program=program)
    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "", "ERROR: Interrupted.\n")


@pytest.mark.parametrize("moment", ["hydra._internal.hydra", "torch.nn", "torchmetrics", "exit"])
def test_a_program_that_starts_or_ends_stops_without_a_trace(moment: str, tmp_path: Path) -> None:
    arguments = ["--help"] if moment == "exit" else [*SHORT, f"hydra.run.dir={tmp_path}"]
    result = interrupted(moment, signal.SIGINT, *arguments)
    assert (result.returncode, result.stderr) == (130, "ERROR: Interrupted.\n")


def test_so_does_one_that_does_what_comes_before_hydra(tmp_path: Path) -> None:
    # a checkpoint is read then, with torch
    (tmp_path / "a.ckpt").write_bytes(b"")
    result = interrupted("torch.nn", signal.SIGINT, f"ckpt_path={tmp_path}/a.ckpt", program="eval")
    assert (result.returncode, result.stderr) == (130, "ERROR: Interrupted.\n")


MOMENTS = [
    ("hydra.callbacks", "on_run_start", "stopped"),
    ("hydra.callbacks", "on_job_start", "stopped"),
    ("callbacks", "setup", "stopped"),
    ("callbacks", "on_sanity_check_start", "stopped"),
    ("callbacks", "on_train_batch_start", "resumable"),
    ("callbacks", "on_validation_batch_end", "stopped"),  # of the sanity check
    ("callbacks", "on_test_start", "has a checkpoint"),
    ("callbacks", "on_test_batch_end", "has a checkpoint"),
    ("hydra.callbacks", "on_job_end", "has a checkpoint"),
    ("hydra.callbacks", "on_run_end", "has a checkpoint"),
]
# the signals in turn at each commit, and both where a run can be resumed; both at each moment in `make test-slow`
SIGNALS = [
    pytest.param(*moment, number, marks=() if place % 2 == turn or moment[2] == "resumable" else pytest.mark.slow)
    for place, moment in enumerate(MOMENTS)
    for turn, number in enumerate((signal.SIGINT, signal.SIGTERM))
]


@pytest.mark.parametrize(("where", "hook", "status", "number"), SIGNALS)
def test_a_run_stops_without_a_trace(where: str, hook: str, status: str, number: int, tmp_path: Path) -> None:
    kind = "HydraMoment" if where.startswith("hydra") else "Moment"
    moment = f"+{where}.moment={{_target_: tests.system.test_signals.{kind}, hook: {hook}, number: {int(number)}}}"
    result = run("train", *SHORT, moment, f"hydra.run.dir={tmp_path}")
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr
    if status == "resumable":
        assert result.returncode == 75 and f"resume={tmp_path}" in result.stderr
    else:
        go_on = f"; to resume: resume={tmp_path}" if status == "has a checkpoint" else ""
        assert (result.returncode, result.stderr.splitlines()[-1]) == (128 + number, f"ERROR: Interrupted{go_on}.")


AMID_C_CODE = """
import datetime, hashlib, os, signal, sys
from src.system.signals import listener
listener.grace_seconds = 0.01
listener.listen()
before, wait = sys.argv[1:]
exec(before)
print("waits", flush=True)
exec(wait)
print("went on")
"""
NODE = "torch.distributed.TCPStore('127.0.0.1', 0, 2, True, datetime.timedelta(minutes=5))"  # that never comes
NOTE = "listener.training = True; signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, listener.end))"
FORK = "os.fork() or os.kill(os.getpid(), signal.SIGTERM); os.wait()"
WORK = "hashlib.pbkdf2_hmac('sha256', b'', b'', 1_000_000)"  # some tenths of a second


def amid_c_code(before: str, wait: str) -> "subprocess.Popen[str]":
    """A program that listens, and is executing code that ignores signals."""
    command = [sys.executable, "-c", AMID_C_CODE, before, wait]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=listens_to_ctrl_c, **pipes)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_waits_in_c_code_ends(number: int) -> None:
    with amid_c_code("import torch.distributed", NODE) as process:
        process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (128 + number, "ERROR: Interrupted.\n")


@pytest.mark.parametrize(
    ("before", "wait"),
    [(NOTE, f"os.kill(os.getpid(), signal.SIGTERM); {WORK}"), (FORK, WORK)],
    ids=["noted while it trains", "to a fork"],
)
def test_a_signal_that_something_else_answers_does_not_end_it(before: str, wait: str) -> None:
    with amid_c_code(before, wait) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "went on\n", "")


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A listener within this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    own = Listener()
    own.listen()
    yield own
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_temporary_files_are_removed(number: int, listener: Listener, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), listener.cleanup(), tempfile.TemporaryDirectory(dir=tmp_path):
        os.kill(os.getpid(), number)
    assert not list(tmp_path.iterdir())
    assert listener.status == 128 + number


def test_a_job_in_the_background_goes_on_ignoring_ctrl_c(listener: Listener) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, listener.end)
    Listener().listen()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == listener.end


def test_the_cursor_that_a_bar_has_hidden_is_shown_again(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(os, "isatty", lambda _: True)
    monkeypatch.setattr(os, "write", lambda _, text: written.append(text))
    monkeypatch.setattr(os, "_exit", lambda status: None)
    listener.end(signal.SIGINT, None)
    assert written == [f"{SHOW_CURSOR}ERROR: Interrupted.\n".encode()]
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_RANK"):  # other processes print it
        monkeypatch.setenv(name, "0")
        listener.end(signal.SIGINT, None)
        monkeypatch.delenv(name)
    assert len(written) == 1


def catches(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    (mask,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what signals a process catches")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_twelve_moments_of_the_life_of_a_run(number: int, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    generator, span = random.Random(seed), 0.0
    for place in range(-1, 12):
        folder = tmp_path / str(place)
        command = [sys.executable, str(ROOT / "src" / "train.py"), *SHORT, f"hydra.run.dir={folder}"]
        process: Any = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listens_to_ctrl_c
        )
        while not catches(process.pid, signal.SIGTERM):  # Python alone does not
            time.sleep(0.001)
        start = time.monotonic()
        if place >= 0:
            time.sleep(span * (place + generator.random()) / 12)
            process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        span = span or time.monotonic() - start
        # while Python shuts down, the system ends it, which a shell reports as 128 + number, too
        assert process.returncode in ({0} if place < 0 else {0, 75, 128 + number, -number}), errors
        assert "Traceback" not in errors and "Exception" not in errors, f"seed {seed}, moment {place}: {errors}"
