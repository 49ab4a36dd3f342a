"""What a run writes stays below its own folder: no symbolic link leads it out."""

import os
import re
from collections.abc import Collection, Iterator
from fnmatch import translate
from pathlib import Path
from typing import IO

# what runs and sweeps write, beside the numbered folders of jobs; all that lies in a folder of these names is looked at
WRITTEN = (
    *("*.csv", "*.html", "*.journal", "*.json", "*.log", "*.png", "*.txt", "*.yaml", ".lock"),
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
        ValueError: names the first symbolic link that leads out of the folder.
    """
    root = os.path.realpath(folder)
    for path in links(folder, also):
        if not Path(os.path.realpath(path)).is_relative_to(root):
            raise refusal(path)


def links(folder: Path, also: Collection[str] = ()) -> Iterator[Path]:
    """The symbolic links among what runs and sweeps write to a folder."""
    pending = [(folder, True)] if folder.is_dir() else []
    while pending:
        here, is_run = pending.pop()
        for path in here.iterdir():
            is_job = is_run and path.name.isdecimal()
            if is_run and not (is_job or path.name in also or IS_WRITTEN.match(path.name)):
                continue
            if path.is_symlink():
                yield path
            elif path.is_dir():
                pending.append((path, is_job))


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
