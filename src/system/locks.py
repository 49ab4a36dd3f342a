"""One process at a time in a folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.system.links import open_to_append
from src.system.ranks import is_first


class FolderInUse(ValueError):
    """Another process is at work in a folder, and whoever finds so writes nothing there."""


@contextmanager
def locked(folder: Path, otherwise: str = "another process is training there.", patience: float = 1) -> Iterator[None]:
    """Keep other processes from writing to a folder, for as long as the context lasts.

    Args:
        folder: of a run or a sweep.
        otherwise: what another process that has locked it does.
        patience: seconds to wait for another process; one that only looks whether there is a lock has one for a moment.

    Raises:
        FolderInUse: another process is at it.
        ValueError: a symbolic link has the name of the lock.
    """
    if os.name != "posix" or not is_first():  # Windows has no such lock; the first process holds it for the others
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open_to_append(folder / ".lock") as file:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    raise FolderInUse(f"{folder} is in use: {otherwise}") from error
                time.sleep(0.02)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process is at work in a folder, which may be one that only others may write to."""
    path = folder / ".lock"
    if os.name != "posix" or not path.is_file():
        return False
    import fcntl

    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # those who only look do not hinder each other
        except BlockingIOError:
            return True
    return False
