"""Run a command-line program within this process, for example from a notebook.

The program receives the same arguments as in a terminal and does the same: it checks them, composes the configuration,
locks its folder and writes the same files. Instead of exiting with a status it raises exceptions, and it restores
logging, signal handlers and Hydra's state at the end.
"""

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from src.cli.entry_point import FULL_ERROR, set_env
from src.cli.errors import describe
from src.config.composing import compose, parse
from src.config.paths import CONFIGS, ROOT
from src.run.file_names import CHECKPOINTS, LAST, TRACEBACK
from src.run.interruption import Interrupted
from src.run.status import run_with_status
from src.system.json_files import write_whole
from src.system.locks import FolderInUse, locked
from src.system.openmp import watch_contention
from src.system.signals import SIGNALS, listener

LOGGERS = ("", "journal", "py.warnings")  # as configured by configs/hydra/default.yaml


class RunInterrupted(Exception):
    """Raised when Ctrl-C or the interruption of a notebook's kernel ends a run that can be resumed.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"Interrupted; the run is saved in {folder}. To resume it: train({f'resume={folder}'!r}), or in a "
            f"terminal: python src/train.py 'resume={folder}'"
        )
        self.folder = folder


def run_program(main: Any, config_name: str, words: Sequence[str]) -> Path:
    """Run a program to its end.

    Args:
        main: the program, as returned by `src.cli.entry_point`.
        config_name: name of the program and of its primary configuration.
        words: arguments of its command line, each `key=value`.

    Returns:
        The run directory.

    Raises:
        RunInterrupted: by Ctrl-C; the run can be resumed.
        ValueError: an argument is invalid. Other exceptions come from the run; their full traceback is also in the run
            directory.
    """
    refuse_options(words)
    program = os.path.relpath(ROOT / "src" / f"{config_name}.py")
    full_error = os.environ.get(FULL_ERROR)
    folders: list[Path] = []
    errors: list[BaseException] = []  # not raised in the job, because Hydra would add a line of its own

    def job(cfg: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        folders.append(folder)
        watch_contention()
        try:
            with set_env(FULL_ERROR, full_error), locked(folder):
                run_with_status(folder, lambda: main.task(cfg), describe)
        except (Interrupted, KeyboardInterrupt, SystemExit):  # Lightning exits on Ctrl-C in a test
            resumable = (folder / CHECKPOINTS / LAST).is_file()
            errors.append(RunInterrupted(folder) if resumable else KeyboardInterrupt())
        except Exception as error:
            record_failure(folder, error)
            errors.append(error)

    job.__module__, job.__qualname__ = main.task.__module__, f"{main.task.__name__}.job"
    with command_line(program, words), restoring_process(), concise_errors(config_name):
        main.check_command_line()
        with set_env(FULL_ERROR, "1"):  # Hydra then raises errors instead of printing them
            hydra.main(str(CONFIGS), config_name, version_base="1.3")(job)()
        if errors:
            raise errors[0]
    return folders[0]


@contextmanager
def concise_errors(config_name: str) -> Iterator[None]:
    """Convert Hydra's errors into a ValueError with one sentence, unless HYDRA_FULL_ERROR=1."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        raise ValueError(describe(error, config_name, sys.argv[1:])) from None
    except SystemExit:  # the folder was rejected before the run
        raise ValueError("The run has not started: the reason is printed above.") from None


def compose_program(main: Any, config_name: str, words: Sequence[str]) -> DictConfig:
    """Compose the configuration that a program would run with.

    Args:
        main: see `run_program`.
        config_name: see `run_program`.
        words: see `run_program`.

    Returns:
        The configuration, with the arguments under `hydra.overrides.task` and nothing else of Hydra's node.

    Raises:
        ValueError: an argument is invalid.
    """
    refuse_options(words)
    with command_line(config_name, words), restoring_process(), concise_errors(config_name):
        main.check_command_line()
        cfg = compose(config_name, parse(sys.argv[1:]), with_hydra=True)
        with open_dict(cfg):
            cfg.hydra = {"overrides": {"task": sys.argv[1:]}}
    return cfg


def refuse_options(words: Sequence[str]) -> None:
    """Raise ValueError for options such as -m."""
    if options := [word for word in words if word.startswith("-")]:
        raise ValueError(f"{options[0]} is an option of the command line: give key=value here.")


def record_failure(folder: Path, error: Exception) -> None:
    """Write the traceback of a failed run to its folder, as the program does, and the error message to its log."""
    if isinstance(error, FolderInUse):
        return
    try:
        write_whole(folder / TRACEBACK, "".join(traceback.format_exception(error)))
        logging.getLogger("journal").error("%s", describe(error))
    except OSError:  # a full disk, for instance: the first error is the one to show
        return


@contextmanager
def command_line(program: str, words: Sequence[str]) -> Iterator[None]:
    """Set `sys.argv`, which Hydra reads and a run records, within the context."""
    before, sys.argv = sys.argv, [program, *words]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def restoring_process() -> Iterator[None]:
    """Restore logging, warnings, signal handlers and Hydra's state at the end of the context."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for keep in (keep_loggers, keep_signal_handlers, keep_hydra):
            stack.callback(keep())
        yield


def keep_loggers() -> Callable[[], None]:
    """Return a function that restores the loggers and closes the log of the run."""
    before = {}
    for name in LOGGERS:
        logger = logging.getLogger(name)
        before[logger] = (logger.handlers[:], logger.level, logger.propagate)

    def restore() -> None:
        for logger, (handlers, level, propagate) in before.items():
            for handler in logger.handlers:
                if handler not in handlers:
                    handler.close()
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)

    return restore


def keep_signal_handlers() -> Callable[[], None]:
    """Return a function that restores the signal handlers: Lightning may leave them ignored after Ctrl-C in a test."""
    training = listener.training
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if is_main else {}

    def restore() -> None:
        listener.training = training
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def keep_hydra() -> Callable[[], None]:
    """Clear Hydra's state, which exists if a notebook called `hydra.initialize`; return a function that restores it.

    Registered configurations are restored, too: programs that open a run register its configuration.
    """
    state, registered = GlobalHydra.instance(), ConfigStore.instance().repo
    before, state.hydra = state.hydra, None
    nodes = {**registered}

    def restore() -> None:
        state.hydra = before
        registered.clear()
        registered.update(nodes)

    return restore
