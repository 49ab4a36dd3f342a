"""Exceptions that end a run or a sweep early."""

import shlex
import signal
from pathlib import Path

RESUMABLE = 75  # the exit status "try again later" (EX_TEMPFAIL of sysexits.h)


class Interrupted(Exception):
    """A signal has ended the run; it can be resumed from a checkpoint.

    Args:
        number: the signal's number; None: another process of the run received it.
        run_dir: the run directory.
    """

    def __init__(self, number: int | None, run_dir: str | Path) -> None:
        from src.system.ranks import program  # a slow import, not needed for RESUMABLE

        name = signal.Signals(number).name if number is not None else "a signal in another process"
        argument = shlex.quote(f"resume={run_dir}")
        super().__init__(f"Interrupted by {name}; to resume: {program()} src/train.py {argument}")


class SweepFailed(Exception):
    """All jobs of a sweep have ended, and some failed."""


class SweepInterrupted(Exception):
    """A sweep was stopped before all of its jobs had ended."""


class Pruned(Exception):
    """The study has pruned this run.

    Args:
        value: the last value of the optimised metric.
    """

    def __init__(self, value: float) -> None:
        super().__init__(f"Pruned at {value:g}: other trials were better by then.")
        self.value = value
