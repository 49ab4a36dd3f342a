"""One process at a time in a folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from src.system.links import open_to_append, refusal
from src.system.ranks import is_rank_zero


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
        ValueError: the lock is a link, which may be another folder's.
    """
    if os.name != "posix" or not is_rank_zero():  # Windows has no such lock; the first process holds it for the others
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open_to_append(folder / ".lock") as file:
        check_alone(file, folder / ".lock")
        try:
            take(file, patience)
        except BlockingIOError as error:
            raise FolderInUse(f"{folder} is in use: {otherwise}") from error
        yield


def take(file: IO[Any] | int, patience: float) -> None:
    """Lock an open file until it is closed, or its process ends, however that does.

    Args:
        file: open to write, or its descriptor.
        patience: seconds to wait for another process.

    Raises:
        BlockingIOError: another process has locked it.
    """
    import fcntl

    end = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.02)


def check_alone(file: IO[Any], path: Path) -> None:
    """Refuse a lock that has further names, in whose folders this process, or another, may hold it."""
    if os.fstat(file.fileno()).st_nlink > 1:
        raise ValueError(f"{path} is a hard link: delete it.")


def is_locked(folder: Path) -> bool:
    """Whether a process is at work in a folder, which may be one that only others may write to.

    Raises:
        ValueError: the lock is a link, which may be another folder's.
    """
    path = folder / ".lock"
    if path.is_symlink():
        raise refusal(path)
    if os.name != "posix" or not path.is_file():
        return False
    import fcntl

    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        check_alone(file, path)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # those who only look do not hinder each other
        except BlockingIOError:
            return True
    return False
