"""Exceptions that end a run or a sweep early."""

import shlex
import signal
from pathlib import Path

RESUMABLE = 75  # the exit status "try again later" (EX_TEMPFAIL of sysexits.h)


class Interrupted(Exception):
    """A signal has ended the run; it can be resumed from a checkpoint.

    Args:
        number: of the signal, in this process or, for None, in another of the same run.
        run_dir: the folder of the run.
    """

    def __init__(self, number: int | None, run_dir: str | Path) -> None:
        from src.system.ranks import program  # imported here because it is slow, and RESUMABLE needs none of it

        name = signal.Signals(number).name if number is not None else "a signal in another process"
        argument = shlex.quote(f"resume={run_dir}")
        super().__init__(f"Interrupted by {name}; resumable: {program()} src/train.py {argument}")


class SweepFailed(Exception):
    """Jobs of a sweep have failed, and all others have ended."""


class SweepInterrupted(Exception):
    """A sweep has been told to end before all of its jobs had."""


class Pruned(Exception):
    """The study has pruned this run.

    Args:
        value: the last one of what the study optimises.
    """

    def __init__(self, value: float) -> None:
        super().__init__(f"Pruned at {value:g}: other trials were better by then.")
        self.value = value
