"""Keep a run from writing outside of its folder through a symbolic link."""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from fnmatch import translate
from pathlib import Path
from typing import IO

# names that runs and sweeps write, besides the numbered folders of jobs; folders of these names are checked recursively
WRITTEN = (
    *("*.csv", "*.html", "*.journal", "*.json", "*.log", "*.md", "*.png", "*.svg", "*.txt", "*.yaml"),
    *(".benchmark", ".lock"),
    *(".hydra", ".launchers", ".submitit", "checkpoints", "csv", "explain", "export", "int8", "tensorboard", "wandb"),
)
IS_WRITTEN = re.compile("|".join(map(translate, WRITTEN)), re.IGNORECASE)  # as some file systems do


def check_links(folder: Path, extra_names: Collection[str] = ()) -> None:
    """Check that nothing that a run or a sweep writes in its folder is a link that leads out of it.

    The folder itself and its parents may be links, as may files that no run writes and links that stay in the folder.

    Args:
        folder: folder of a run or a sweep; it need not exist.
        extra_names: further names that are written.

    Raises:
        ValueError: a symbolic link leads out of the folder, or there is a pipe or a device, which would block.
    """
    root = os.path.realpath(folder)
    for entry in written_entries(folder, extra_names):
        if entry.is_symlink():
            if not Path(os.path.realpath(entry.path)).is_relative_to(root):
                raise symlink_error(Path(entry.path))
        elif not entry.is_file() and not entry.is_dir() and Path(entry.path).exists():  # not deleted meanwhile
            raise ValueError(f"{entry.path} is neither a file nor a folder: delete it.")


def written_entries(folder: Path, extra_names: Collection[str] = ()) -> Iterator["os.DirEntry[str]"]:
    """Yield the entries below a folder that runs and sweeps write."""
    pending = [(str(folder), True)] if folder.is_dir() else []
    while pending:
        current, is_run = pending.pop()
        with suppress(FileNotFoundError), os.scandir(current) as entries:  # fast, for sweeps of a thousand jobs
            for entry in entries:
                is_job = is_run and entry.name.isdecimal()
                if not is_run or is_job or entry.name in extra_names or IS_WRITTEN.match(entry.name):
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((entry.path, is_job))


def open_to_append(path: Path) -> IO[str]:
    """Open a text file to append to, or create it; raise ValueError if it is a symbolic link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)  # not on Windows
    try:
        return os.fdopen(os.open(path, flags, 0o666), "a")
    except OSError as error:
        if path.is_symlink():
            raise symlink_error(path) from error
        raise


def symlink_error(path: Path) -> ValueError:
    """Create the error for a symbolic link."""
    return ValueError(
        f"{path} is a symbolic link: a run writes only below its own folder. Replace the link with its target."
    )
