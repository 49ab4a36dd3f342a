"""What a run writes stays below its own folder: no symbolic link leads it out."""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from fnmatch import translate
from pathlib import Path
from typing import IO

# what runs and sweeps write, beside the numbered folders of jobs; all that lies in a folder of these names is looked at
WRITTEN = (
    *("*.csv", "*.html", "*.journal", "*.json", "*.log", "*.png", "*.txt", "*.yaml", ".benchmark", ".lock"),
    *(".hydra", ".launchers", ".submitit", "checkpoints", "csv", "export", "int8", "tensorboard", "wandb"),
)
IS_WRITTEN = re.compile("|".join(map(translate, WRITTEN)), re.IGNORECASE)  # there are file systems that do


def check_links(folder: Path, also: Collection[str] = ()) -> None:
    """Check that whatever a run or a sweep may write to below its folder is there, and not somewhere else.

    The folder itself and those above it may be links, such as a `logs` that leads to a larger disk, and so may files
    and folders of other names, and links that stay below the folder.

    Args:
        folder: of a run or a sweep; it need not exist.
        also: further names of what is written to it.

    Raises:
        ValueError: names a symbolic link that leads out of the folder, or a pipe and its like, which would block.
    """
    root = os.path.realpath(folder)
    for entry in written(folder, also):
        if entry.is_symlink():
            if not Path(os.path.realpath(entry.path)).is_relative_to(root):
                raise refusal(Path(entry.path))
        elif not entry.is_file() and not entry.is_dir() and Path(entry.path).exists():  # others may delete it meanwhile
            raise ValueError(f"{entry.path} is neither a file nor a folder: delete it.")


def written(folder: Path, also: Collection[str] = ()) -> Iterator["os.DirEntry[str]"]:
    """What there is below a folder of all that runs and sweeps write."""
    pending = [(str(folder), True)] if folder.is_dir() else []
    while pending:
        here, is_run = pending.pop()
        with suppress(FileNotFoundError), os.scandir(here) as entries:  # fast, for sweeps of a thousand jobs
            for entry in entries:
                is_job = is_run and entry.name.isdecimal()
                if not is_run or is_job or entry.name in also or IS_WRITTEN.match(entry.name):
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((entry.path, is_job))


def open_to_append(path: Path) -> IO[str]:
    """Open a text file to write to its end, or a new one.

    Raises:
        ValueError: it is a symbolic link.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)  # which Windows has not
    try:
        return os.fdopen(os.open(path, flags, 0o666), "a")
    except OSError as error:
        if path.is_symlink():
            raise refusal(path) from error
        raise


def refusal(path: Path) -> ValueError:
    """The error for a symbolic link."""
    return ValueError(
        f"{path} is a symbolic link: a run writes only below its own folder. Put what it leads to in its place."
    )
