"""Create a separate folder for every run, even if several start at once."""

import atexit
import copy
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict

from src.config.paths import CONFIGS
from src.run.file_names import CHECKPOINTS, JOB, RECORD
from src.system.links import check_links
from src.system.locks import is_locked
from src.system.ranks import (
    broadcast_from_rank_zero,
    in_torchrun,
    is_rank_zero,
    keep_for_restart,
    print_error,
    program,
    run_on_rank_zero,
)

RUN_DIR = "LAB_RUN_DIR"  # passes the run directory to the processes that Lightning starts


class ExclusiveFolder(Callback):
    """Create the folder of a run or a sweep before Hydra does, and never take one that exists.

    Creating a folder either succeeds or finds that it exists, in one step, on a shared file system too. A folder that
    the command line names, with hydra.run.dir, hydra.sweep.dir or sweep=, is used as it is, if no link leads out of it
    and no run is in it.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Choose one run folder for all processes; ranks other than 0 log only errors."""
        try:
            folder = broadcast_from_rank_zero(lambda: self._choose(config, "run"))
            keep_for_restart(folder)
        except RuntimeError as error:  # an Exception Hydra would pass over
            sys.exit(f"ERROR: the processes of torchrun can't agree on a run directory: {error}")
        exit_on_refusal(check_links, folder)
        with flag_override(config, "readonly", False):
            config.hydra.run.dir = folder
            if not is_rank_zero():
                config.hydra.output_subdir = None
                config.hydra.job_logging.root.level = "ERROR"

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Choose the folder of a sweep."""
        if in_torchrun():
            run_on_rank_zero(
                lambda: print_error(
                    "-m: torchrun is for one run; leave out -m and start it for each: for seed in 1 2 3; do "
                    f"{program()} src/train.py trainer=ddp seed=$seed; done"
                )
            )
            sys.exit(1)
        folder = self._choose(config, "sweep")
        exit_on_refusal(check_links, folder)
        with flag_override(config, "readonly", False):
            config.hydra.sweep.dir = folder

    def _choose(self, config: DictConfig, kind: str) -> str:
        said: Any = OmegaConf.to_container(config.hydra.overrides)  # as it is written: it may refer to this folder
        overrides = [*said["hydra"], *said["task"]]
        wanted = str(config.hydra[kind].dir)
        if any(override.startswith((f"hydra.{kind}.dir=", f"{kind}=")) for override in overrides):
            if kind == "run" and is_rank_zero() and not config.get("resume"):
                exit_on_refusal(check_links, wanted)
                exit_on_refusal(check_unused, wanted)
            return wanted
        folder = create_folder(Path(wanted))
        if kind == "sweep":
            atexit.register(remove_if_empty, folder)  # where the sweep is refused
        return str(folder)


def check_unused(folder: Path) -> None:
    """Check that no run is in a folder that the command line names for a new one; a sweep's job goes on in its own.

    Raises:
        ValueError: there is a run in it, or a link has the name of its lock.
    """
    if (folder / JOB).is_file():
        return
    if is_locked(folder) or (folder / RECORD).is_file() or any((folder / CHECKPOINTS).glob("*.ckpt*")):
        resume_argument = shlex.quote(f"resume={folder}")
        raise ValueError(f"{folder} already holds a run: use {resume_argument} or choose another folder.")


def exit_on_refusal(check: Callable[[Path], None], folder: str) -> None:
    """End the program where a check of its folder fails, for Hydra passes over errors of its callbacks."""
    try:
        check(Path(folder))
    except (ValueError, OSError) as error:
        sentence = str(error)
        run_on_rank_zero(lambda: print_error(sentence))
        sys.exit(1)


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


def with_folder(cfg: DictConfig) -> DictConfig:
    """Add a new run directory to a configuration that was composed in Python.

    It is called as a program's would be, unless `paths.output_dir` has been set.
    """
    lacks = OmegaConf.select(cfg, "paths.output_dir", throw_on_resolution_failure=False) is None
    if not lacks and "hydra" not in cfg:
        return cfg
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.pop("hydra", None)  # of return_hydra_config=True; it is no part of what a run does
    if lacks:
        of_programs: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "hydra" / "default.yaml"))
        cfg.paths.output_dir = of_programs["run"]["dir"]
        given = None if is_rank_zero() or in_torchrun() else os.environ.get(RUN_DIR)
        wanted = Path(cfg.paths.output_dir)
        cfg.paths.output_dir = os.environ[RUN_DIR] = given or broadcast_from_rank_zero(
            lambda: str(create_folder(wanted))
        )
    return cfg
