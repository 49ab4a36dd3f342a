"""What Ctrl-C and SIGTERM do to a program, from its first line to its last; while it trains, `LastCheckpoint` listens.

An exception that is raised amid whatever runs is answered there with a stack trace, taken for another mistake, or lost.
What a program writes survives `kill -9`; so it says that it was interrupted, and exits. Only the standard library is
imported here, or the first second would not be covered.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

INTERRUPTED = 128  # plus the signal's number, as a shell says it: 130 after Ctrl-C, 143 after SIGTERM
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar may have hidden


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
    """

    sentence: Callable[[], str] = lambda: "Interrupted."
    before: list[Callable[[], None]] = field(default_factory=list)
    pid: int | None = None
    tidies: bool = False
    received: int | None = None

    def listen(self) -> None:
        """Take over the signals, but for those that are ignored, as in the background, or handled otherwise."""
        self.pid = os.getpid()
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) is usual:
                signal.signal(number, self.end)

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
