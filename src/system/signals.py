"""What Ctrl-C and SIGTERM do to a program, from its first line to its last; while it trains, `LastCheckpoint` listens.

An exception that is raised amid whatever runs is answered there with a stack trace, taken for another mistake, or lost.
What a program writes survives `kill -9`; so it says that it was interrupted, and exits. Only the standard library is
imported here, or the first second would not be covered.

Python runs a handler in the main thread, between two of its own steps: never, while that waits in C++ code, such as
torch's for other nodes. A thread of the listener ends the process then.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

INTERRUPTED = 128  # plus the signal's number, as a shell says it: 130 after Ctrl-C, 143 after SIGTERM
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar may have hidden
SIGNALS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}  # and how Python answers them


def say(sentence: str) -> None:
    """Write a line to standard error, even if the signal came amid such a write, which Python would refuse."""
    cursor = SHOW_CURSOR if os.isatty(2) else ""
    os.write(2, f"{cursor}ERROR: {sentence}\n".encode())


@dataclass
class Listener:
    """How this process ends at a signal.

    Args:
        sentence: makes what is said then.
        before: called then, each.
        pid: of the process that listens; its forks end in silence.
        tidies: whether the code that runs cleans up when KeyboardInterrupt is raised.
        received: the signal that is being raised.
        trains: whether `LastCheckpoint` ends the run, or has begun to: in order, however long the step takes.
        patience: seconds that the main thread has to run the handler.
    """

    sentence: Callable[[], str] = lambda: "Interrupted."
    before: list[Callable[[], None]] = field(default_factory=list)
    pid: int | None = None
    tidies: bool = False
    received: int | None = None
    trains: bool = False
    patience: float = 1.0

    def listen(self) -> None:
        """Take over the signals, but for those that are ignored, as in the background, or handled otherwise."""
        is_first, self.pid = self.pid != os.getpid(), os.getpid()
        for number, usual in SIGNALS.items():
            if signal.getsignal(number) is usual:
                signal.signal(number, self.end)
        if is_first and os.name == "posix" and any(self._handles(number) for number in SIGNALS):
            self._watch()

    def end(self, number: int, frame: Any) -> None:
        """End the process, or raise KeyboardInterrupt within `tidying`."""
        if self.tidies and self.received is None:
            self.received = number
            raise KeyboardInterrupt
        if os.getpid() == self.pid:
            for action in self.before:
                action()
            # of several processes each would say it
            if {"TORCHELASTIC_RUN_ID", "LOCAL_RANK"}.isdisjoint(os.environ):
                say(self.sentence())
        os._exit(INTERRUPTED + number)

    def _handles(self, number: int) -> bool:
        """Whether a signal ends this process at once, as far as `end` is called."""
        return signal.getsignal(number) == self.end and not (self.tidies or self.trains or self.received)

    def _watch(self) -> None:
        """Start the thread that ends the process where the main thread does not come to do it."""
        signals, caught = os.pipe()
        os.set_blocking(caught, False)
        signal.set_wakeup_fd(caught, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # what a fork receives is not ours

        def wait() -> None:
            while True:
                for number in os.read(signals, 1):
                    if self._handles(number):
                        time.sleep(self.patience)
                        if self._handles(number):
                            self.end(number, None)

        threading.Thread(target=wait, daemon=True).start()

    @contextmanager
    def tidying(self) -> Iterator[None]:
        """Let the first signal raise KeyboardInterrupt: for code that removes temporary files whatever happens."""
        self.tidies = True
        try:
            yield
        finally:
            self.tidies = False

    @property
    def status(self) -> int:
        """The exit status of a program that a signal has ended; of Ctrl-C where Lightning has answered it."""
        return INTERRUPTED + (self.received or signal.SIGINT)


listener = Listener()
