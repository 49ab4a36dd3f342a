"""Let one process at a time work in a folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from src.system.links import open_to_append, symlink_error
from src.system.ranks import is_rank_zero


class FolderInUse(ValueError):
    """Another process is working in a folder, so nothing may be written there."""


@contextmanager
def locked(folder: Path, reason: str = "another process is training there.", timeout: float = 1) -> Iterator[None]:
    """Lock a folder within the context.

    Args:
        folder: folder of a run or a sweep; it is created.
        reason: what the process that holds the lock is doing, for the error message.
        timeout: seconds to wait for the lock, which `is_locked` of another process holds for a moment.

    Raises:
        FolderInUse: another process has locked it.
        ValueError: the lock file is a link, which may lead to the lock of another folder.
    """
    if os.name != "posix" or not is_rank_zero():  # Windows has no `flock`; rank zero locks for all ranks
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open_to_append(folder / ".lock") as file:
        check_single_link(file, folder / ".lock")
        try:
            acquire(file, timeout)
        except BlockingIOError as error:
            raise FolderInUse(f"{folder} is in use: {reason}") from error
        yield


def acquire(file: IO[Any] | int, timeout: float) -> None:
    """Lock an open file until it is closed or the process ends; raise BlockingIOError after `timeout` seconds."""
    import fcntl

    end = time.monotonic() + timeout
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.02)


def check_single_link(file: IO[Any], path: Path) -> None:
    """Refuse a lock file with a second hard link, which may be the lock of another folder."""
    if os.fstat(file.fileno()).st_nlink > 1:
        raise ValueError(f"{path} is a hard link: delete it.")


def is_locked(folder: Path) -> bool:
    """Return whether a process has locked a folder, which may be read-only; raise ValueError for a linked lock file."""
    path = folder / ".lock"
    if path.is_symlink():
        raise symlink_error(path)
    if os.name != "posix" or not path.is_file():
        return False
    import fcntl

    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        check_single_link(file, path)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared with other readers
        except BlockingIOError:
            return True
    return False
