"""A folder of its own for every run, however many start at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override


class ExclusiveFolder(Callback):
    """Create the folder of a run or a sweep before Hydra does, and never take one that exists.

    Creating a folder either succeeds or finds that it exists, in one step, on a shared file system too. A folder that
    the command line names, with hydra.run.dir, hydra.sweep.dir or sweep=, is used as it is.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Choose the folder of a run."""
        self._choose(config, "run")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Choose the folder of a sweep."""
        self._choose(config, "sweep")

    def _choose(self, config: DictConfig, kind: str) -> None:
        overrides = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
        if any(override.startswith((f"hydra.{kind}.dir=", f"{kind}=")) for override in overrides):
            return
        with flag_override(config, "readonly", False):
            config.hydra[kind].dir = str(create_folder(Path(config.hydra[kind].dir)))


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
    if os.name != "posix" or "LOCAL_RANK" in os.environ:  # Windows has no such lock; the first process holds it
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


def create_folder(wanted: Path) -> Path:
    """Create a folder that did not exist: the one that is wanted, or that with the first free number after it."""
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
