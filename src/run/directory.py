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
    """Create a new folder for a run or a sweep before Hydra does.

    `mkdir` either creates a folder or reports that it exists, atomically, even on a shared file system. A folder given
    on the command line, by hydra.run.dir, hydra.sweep.dir or sweep=, is used as it is, unless a link leads out of it or
    it contains a run.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Choose one run folder for all processes; ranks other than 0 log only errors."""
        try:
            folder = broadcast_from_rank_zero(lambda: self._choose(config, "run"))
            keep_for_restart(folder)
        except RuntimeError as error:  # Hydra ignores exceptions of its callbacks
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
        given: Any = OmegaConf.to_container(config.hydra.overrides)  # unresolved: they may refer to this folder
        overrides = [*given["hydra"], *given["task"]]
        requested = str(config.hydra[kind].dir)
        if any(override.startswith((f"hydra.{kind}.dir=", f"{kind}=")) for override in overrides):
            if kind == "run" and is_rank_zero() and not config.get("resume"):
                exit_on_refusal(check_links, requested)
                exit_on_refusal(check_unused, requested)
            return requested
        folder = create_folder(Path(requested))
        if kind == "sweep":
            atexit.register(remove_if_empty, folder)  # if the sweep is refused
        return str(folder)


def check_unused(folder: Path) -> None:
    """Check that a folder given for a new run contains none; a job of a sweep continues in its own folder.

    Raises:
        ValueError: it contains a run, or a link instead of the lock.
    """
    if (folder / JOB).is_file():
        return
    if is_locked(folder) or (folder / RECORD).is_file() or any((folder / CHECKPOINTS).glob("*.ckpt*")):
        resume_argument = shlex.quote(f"resume={folder}")
        raise ValueError(f"{folder} already holds a run: use {resume_argument} or choose another folder.")


def exit_on_refusal(check: Callable[[Path], None], folder: str) -> None:
    """End the program if a check of its folder fails, because Hydra ignores errors of its callbacks."""
    try:
        check(Path(folder))
    except (ValueError, OSError) as error:
        sentence = str(error)
        run_on_rank_zero(lambda: print_error(sentence))
        sys.exit(1)


def create_folder(requested: Path) -> Path:
    """Create a new folder of the requested name, with the first free number appended if it exists."""
    number = 1
    while True:
        folder = requested if number == 1 else requested.with_name(f"{requested.name}_{number}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    with suppress(OSError):
        folder.rmdir()


def with_folder(cfg: DictConfig) -> DictConfig:
    """Add a new run directory to a configuration that was composed in Python.

    The folder is named like those of the programs, unless `paths.output_dir` is set.
    """
    needs_folder = OmegaConf.select(cfg, "paths.output_dir", throw_on_resolution_failure=False) is None
    if not needs_folder and "hydra" not in cfg:
        return cfg
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.pop("hydra", None)  # added by return_hydra_config=True, which is not part of the run
    if needs_folder:
        program_defaults: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "hydra" / "default.yaml"))
        cfg.paths.output_dir = program_defaults["run"]["dir"]
        inherited = None if is_rank_zero() or in_torchrun() else os.environ.get(RUN_DIR)
        requested = Path(cfg.paths.output_dir)
        cfg.paths.output_dir = os.environ[RUN_DIR] = inherited or broadcast_from_rank_zero(
            lambda: str(create_folder(requested))
        )
    return cfg
