"""Run the project's programs as separate processes that do not spend seconds on importing torch.

A server imports once what all programs import, and computes nothing; each program is a fork of it with its own
arguments, environment and output. With `fresh`, each program is also tested once without the server.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from src.config.paths import ROOT

PRELOADED = ("src.run.instantiate", "src.run.results", "src.callbacks.image_report", "src.data.synthetic")
PRELOADED += ("src.sweeps.optuna_sweeper", "optuna")

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload([*PRELOADED, __name__])


class Program:
    """A running or finished program of `src`; its output is kept in files.

    Args:
        name: train, eval, export …, or the path of another program.
        arguments: arguments of its command line.
        environment: variables in addition to those of the tests.
    """

    def __init__(self, name: str, *arguments: str, **environment: str) -> None:
        self.command = [name if name.endswith(".py") else str(ROOT / "src" / f"{name}.py"), *arguments]
        self._outputs = [tempfile.NamedTemporaryFile(prefix="output_") for _ in range(2)]  # noqa: SIM115
        files = [file.name for file in self._outputs]
        settings = (self.command, {**os.environ, **environment}, str(Path.cwd()), files)
        self._process = context.Process(target=execute, args=settings)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends; kill it if it takes too long."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self.command, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait until it ends; return its standard output and standard error."""
        self.wait(timeout)
        return self.output(), self.errors()

    def output(self) -> str:
        """Return its standard output so far."""
        return Path(self._outputs[0].name).read_text()

    def errors(self) -> str:
        """Return its standard error so far."""
        return Path(self._outputs[1].name).read_text()


def execute(command: list[str], environment: dict[str, str], folder: str, outputs: list[str]) -> None:
    """Run a program in a fork of the server."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the server ignores them
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for descriptor, name in enumerate(outputs, 1):
        file = os.open(name, os.O_WRONLY)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[:] = command
    runpy.run_path(command[0], run_name="__main__")


def run(name: str, *arguments: str, timeout: float = 300, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end."""
    program = Program(name, *arguments, **environment)
    output, errors = program.communicate(timeout)
    assert program.returncode is not None
    return subprocess.CompletedProcess([name, *arguments], program.returncode, output, errors)


def fresh(name: str, *arguments: str, timeout: float = 300, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end in an interpreter that has imported nothing."""
    command = [sys.executable, str(ROOT / "src" / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment})
