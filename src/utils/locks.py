"""One process at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.utils.processes import is_first


@contextmanager
def locked(folder: Path, otherwise: str = "another process is training there.", wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing to a folder, for as long as the context lasts.

    Args:
        folder: of a run or a sweep.
        otherwise: what another process that has locked it does.
        wait: for another process to end, in place of an error.

    Raises:
        ValueError: another process is at it.
    """
    if os.name != "posix" or not is_first():  # Windows has no such lock; the first process holds it for the others
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ValueError(f"{folder} is in use: {otherwise}") from error
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process is at work in a folder."""
    try:
        with locked(folder):
            return False
    except ValueError:
        return True
