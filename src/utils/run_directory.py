"""A folder of its own for every run, however many start at once."""

import atexit
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

from src.utils.cli import print_error
from src.utils.processes import agree, in_torchrun, is_first, keep_for_restart, program, tell


class ExclusiveFolder(Callback):
    """Create the folder of a run or a sweep before Hydra does, and never take one that exists.

    Creating a folder either succeeds or finds that it exists, in one step, on a shared file system too. A folder that
    the command line names, with hydra.run.dir, hydra.sweep.dir or sweep=, is used as it is.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Choose the folder of a run, one for all of its processes; what the first of them says, the others don't."""
        try:
            folder = agree(lambda: self._choose(config, "run"))
            keep_for_restart(folder)
        except RuntimeError as error:  # an Exception Hydra would pass over
            sys.exit(f"ERROR: the processes of torchrun can't agree on a run directory: {error}")
        with flag_override(config, "readonly", False):
            config.hydra.run.dir = folder
            if not is_first():
                config.hydra.output_subdir = None
                config.hydra.job_logging.root.level = "ERROR"

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Choose the folder of a sweep."""
        if in_torchrun():
            tell(
                lambda: print_error(
                    "-m: torchrun is for one run; leave out -m and start it for each: for seed in 1 2 3; do "
                    f"{program()} src/train.py trainer=ddp seed=$seed; done"
                )
            )
            sys.exit(1)
        with flag_override(config, "readonly", False):
            config.hydra.sweep.dir = self._choose(config, "sweep")

    def _choose(self, config: DictConfig, kind: str) -> str:
        overrides = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
        wanted = str(config.hydra[kind].dir)
        if any(override.startswith((f"hydra.{kind}.dir=", f"{kind}=")) for override in overrides):
            return wanted
        folder = create_folder(Path(wanted))
        if kind == "sweep":
            atexit.register(remove_if_empty, folder)  # where the sweep is refused
        return str(folder)


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


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that nothing was put into."""
    with suppress(OSError):
        folder.rmdir()
