"""What a run raises that was told to end, and has saved its state."""

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
        name = signal.Signals(number).name if number is not None else "a signal in another process"
        super().__init__(f"Interrupted by {name}; resumable: python src/train.py {shlex.quote(f'resume={run_dir}')}")
