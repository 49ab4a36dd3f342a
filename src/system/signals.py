"""Handle Ctrl-C and SIGTERM from a program's first line to its last; `LastCheckpoint` takes over during training.

An exception raised in arbitrary code ends in a stack trace, is mistaken for another error, or is lost. Files survive
even `kill -9`, so the handler reports the interruption and exits. Only the standard library is imported here, to handle
signals during the imports too.

Python runs handlers in the main thread between bytecodes, never while it waits in C++ code, as torch does for other
nodes. A thread of the listener ends the process then.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

INTERRUPTED = 128  # plus the signal's number, as in a shell: 130 after Ctrl-C, 143 after SIGTERM
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar may have hidden
SIGNALS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}  # and Python's handlers


def write_error(sentence: str) -> None:
    """Write a line to standard error, even if the signal interrupted such a write, which `sys.stderr` refuses."""
    cursor = SHOW_CURSOR if os.isatty(2) else ""
    os.write(2, f"{cursor}ERROR: {sentence}\n".encode())


@dataclass
class Listener:
    """End this process at a signal.

    Args:
        sentence: returns the message to print.
        before_exit: functions to call first.
        pid: id of the process that listens; its forks end without a message.
        cleaning_up: whether the running code cleans up on KeyboardInterrupt.
        received: the signal that was raised as KeyboardInterrupt.
        training: whether `LastCheckpoint` ends the run, after the current step, however long that takes.
        grace_seconds: time for the main thread to run the handler.
    """

    sentence: Callable[[], str] = lambda: "Interrupted."
    before_exit: list[Callable[[], None]] = field(default_factory=list)
    pid: int | None = None
    cleaning_up: bool = False
    received: int | None = None
    training: bool = False
    grace_seconds: float = 1.0

    def listen(self) -> None:
        """Install the handlers, except for signals that are ignored, as in the background, or handled otherwise."""
        is_first, self.pid = self.pid != os.getpid(), os.getpid()
        for number, default in SIGNALS.items():
            if signal.getsignal(number) is default:
                signal.signal(number, self.end)
        if is_first and os.name == "posix" and any(self._handles(number) for number in SIGNALS):
            self._watch()

    def end(self, number: int, frame: Any) -> None:
        """End the process, or raise KeyboardInterrupt within `cleanup`."""
        if self.cleaning_up and self.received is None:
            self.received = number
            raise KeyboardInterrupt
        if os.getpid() == self.pid:
            for action in self.before_exit:
                action()
            # otherwise every rank would print it
            if {"TORCHELASTIC_RUN_ID", "LOCAL_RANK"}.isdisjoint(os.environ):
                write_error(self.sentence())
        os._exit(INTERRUPTED + number)

    def _handles(self, number: int) -> bool:
        """Return whether `end` handles a signal and ends this process at once."""
        return signal.getsignal(number) == self.end and not (self.cleaning_up or self.training or self.received)

    def _watch(self) -> None:
        """Start the thread that ends the process if the main thread does not."""
        signals, caught = os.pipe()
        os.set_blocking(caught, False)
        signal.set_wakeup_fd(caught, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # forks have signals of their own

        def wait() -> None:
            while True:
                for number in os.read(signals, 1):
                    if self._handles(number):
                        time.sleep(self.grace_seconds)
                        if self._handles(number):
                            self.end(number, None)

        threading.Thread(target=wait, daemon=True).start()

    @contextmanager
    def cleanup(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at the first signal, for code that removes temporary files."""
        self.cleaning_up = True
        try:
            yield
        finally:
            self.cleaning_up = False

    @property
    def status(self) -> int:
        """Return the exit status after a signal; that of Ctrl-C if Lightning has handled it."""
        return INTERRUPTED + (self.received or signal.SIGINT)


listener = Listener()
