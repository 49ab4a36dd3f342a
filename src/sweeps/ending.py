"""End a sweep on SIGINT and SIGTERM: in its launcher, from the first line on, and in its workers.

What a sweep writes survives `kill -9`. The handler therefore does not raise through whatever code is running, which
might catch the exception or print a stack trace: it marks the interrupted jobs, says how to resume, and exits. Nothing
here imports more than the standard library, or the first second would not be covered.
"""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from src.run.interruption import RESUMABLE
from src.system.signals import listener, write_error

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """Handle SIGINT and SIGTERM once `listen` has been called.

    While worker processes run jobs, the first signal only sets `stop_requested`, so that the jobs save their state.
    Any other signal ends this process at once, with the exit status `RESUMABLE`.

    Args:
        sentence: returns the message to print at the end.
        has_running_jobs: whether worker processes run jobs.
        abandon: called before exiting, to mark jobs as interrupted.
    """

    def __init__(
        self,
        sentence: Callable[[], str],
        has_running_jobs: Callable[[], bool] = lambda: False,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        self.sentence, self.has_running_jobs, self.abandon = sentence, has_running_jobs, abandon
        self.stop_requested = False

    def listen(self) -> None:
        """Handle both signals for the rest of the process."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._end)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave signals to Python's own handlers, for code that cleans up after itself when it is interrupted."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            yield
        finally:
            self.listen()

    def _end(self, number: int, frame: Any) -> None:
        if self.has_running_jobs() and not self.stop_requested:
            self.stop_requested = True
            write_error("Interrupted: the running jobs save their state. Press Ctrl-C again to end at once.")
            return
        self.abandon()
        write_error(self.sentence())
        os._exit(RESUMABLE)


def listen_from_the_start() -> None:
    """Handle signals until a sweeper or a run takes over."""
    if {"-m", "--multirun"} & {*sys.argv}:
        Ending(lambda: f"The sweep has not started; to start it: {typed_command()}").listen()
    listener.listen()  # it leaves existing handlers alone


def typed_command(*left_out: str) -> str:
    """Return the command that this program was started with, without the arguments left out."""
    return shlex.join(["python", *(word for word in sys.argv if word not in left_out)])


@contextmanager
def blocked() -> Iterator[None]:
    """Block both signals, in processes started meanwhile as well, until those call `leave_terminal`."""
    if os.name != "posix":  # Windows has no signal masks
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_terminal(ending: Ending) -> None:
    """Detach a worker from the terminal, so that only its launcher ends it, and unblock its signals."""
    if os.name == "posix":
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # drops a pending one
    ending.listen()
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
