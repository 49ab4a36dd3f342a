"""The command line: compose, check, run, and answer a mistake with a sentence instead of a stack trace.

Nothing here imports torch, so that `--help` and most mistakes are answered at once.
"""

import logging
import os
import shlex
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from src.cli.checks import check_options, check_types, without_null
from src.cli.errors import describe
from src.cli.words import check_words
from src.config.paths import CONFIGS
from src.config.quoting import quote_paths
from src.run.file_names import CHECKPOINTS, LAST, TRACEBACK
from src.run.interruption import RESUMABLE, Interrupted, SweepInterrupted
from src.run.status import run_with_status
from src.system.json_files import write_whole
from src.system.locks import FolderInUse, locked
from src.system.openmp import let_waiting_threads_yield, watch_contention
from src.system.ranks import print_error, run_on_rank_zero
from src.system.signals import listener

FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's name for "show me the whole stack trace"

log = logging.getLogger(__name__)


def entry_point(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config the program of `configs/<config_name>.yaml`; like `hydra.main`, with clear errors."""

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        full_error = os.environ.get(FULL_ERROR)
        reported: list[Exception] = []

        def job(cfg: DictConfig) -> Any:
            folder = Path(HydraConfig.get().runtime.output_dir)
            watch_contention()
            listener.sentence = lambda: interrupted(folder)
            with set_env(FULL_ERROR, full_error):  # processes that the job starts see the user's choice
                try:
                    with locked(folder):
                        return run_with_status(folder, lambda: task(cfg), describe)
                except SystemExit:  # how Lightning ends a run at KeyboardInterrupt
                    run_on_rank_zero(lambda: print_error(interrupted(folder)))
                    sys.exit(listener.status)
                except Interrupted as interruption:
                    sentence = str(interruption)
                    run_on_rank_zero(lambda: log.error("%s", sentence))
                    if HydraConfig.get().mode == RunMode.RUN:
                        sys.exit(RESUMABLE)
                    reported.append(interruption)
                    raise  # within a sweep: the other jobs run
                except Exception as error:
                    if listener.received:  # what the interruption was taken for
                        raise KeyboardInterrupt from error
                    report_failure(error)
                    if HydraConfig.get().mode == RunMode.RUN and full_error != "1":
                        sys.exit(1)  # Hydra would add a line of its own to an exception
                    reported.append(error)
                    raise  # within a sweep: Hydra runs the other jobs first

        job.__module__, job.__qualname__ = task.__module__, f"{task.__name__}.job"  # found there by other processes

        def main() -> None:
            listener.listen()
            let_waiting_threads_yield()
            try:
                sys.argv[1:] = without_null(quote_paths(sys.argv[1:]))
                check_words(config_name, sys.argv[1:], CONFIGS)
                check_options(config_name, sys.argv[1:])
                check_types(config_name, sys.argv[1:])
                with (
                    set_env(FULL_ERROR, "1"),
                    faults_of_others(full_error == "1"),
                ):  # makes Hydra hand errors on instead of printing them
                    hydra.main(str(CONFIGS), config_name, version_base="1.3")(job)()
            except KeyboardInterrupt:
                run_on_rank_zero(lambda: print_error("Interrupted."))
                sys.exit(listener.status)
            except Exception as error:
                if full_error == "1":
                    raise
                if listener.received:
                    run_on_rank_zero(lambda: print_error("Interrupted."))
                    sys.exit(listener.status)
                if error not in reported:
                    sentence = describe(error, config_name, sys.argv[1:])
                    run_on_rank_zero(lambda: print_error(sentence))
                sys.exit(RESUMABLE if isinstance(error, Interrupted | SweepInterrupted) else 1)

        main.job = job  # type: ignore[attr-defined]
        return main

    return decorate


def exit_on_error(action: Callable[[], Any]) -> None:
    """Do what has to come before Hydra, and answer its mistakes likewise."""
    let_waiting_threads_yield()
    try:
        check_words(Path(sys.argv[0]).stem, sys.argv[1:], CONFIGS)
        action()
    except Exception as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        sentence = describe(error)
        run_on_rank_zero(lambda: print_error(sentence))
        sys.exit(1)


def interrupted(folder: Path) -> str:
    """What is said of a run that is interrupted while it does not train."""
    has_checkpoint = (folder / CHECKPOINTS / LAST).is_file()
    return f"Interrupted{'; to go on: ' + shlex.quote(f'resume={folder}') if has_checkpoint else ''}."


@contextmanager
def set_env(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable, or remove it for None, for as long as the context lasts."""
    before = os.environ.get(name)
    change_env(name, value)
    try:
        yield
    finally:
        change_env(name, before)


def change_env(name: str, value: str | None) -> None:
    """Set an environment variable, or remove it for None."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextmanager
def faults_of_others(full: bool) -> Iterator[None]:
    """Let files that other threads and the log cannot write, on a full disk, be told in a sentence, or in full."""
    hook, raising = threading.excepthook, logging.raiseExceptions

    def tell_fault(fault: threading.ExceptHookArgs) -> None:
        if isinstance(fault.exc_value, OSError):
            print_error(describe(fault.exc_value))
        else:
            hook(fault)

    if not full:
        threading.excepthook, logging.raiseExceptions = tell_fault, False
    try:
        yield
    finally:
        threading.excepthook, logging.raiseExceptions = hook, raising


def report_failure(error: Exception) -> None:
    """Say what went wrong with a job, and where what it left behind is."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    sentence = describe(error)

    def report() -> None:
        if isinstance(error, FolderInUse):  # its log is that of the other process
            print_error(sentence)
            return
        try:
            write_whole(folder / TRACEBACK, "".join(traceback.format_exception(error)))
            trained = (folder / CHECKPOINTS).is_dir()
            left = "log, the full trace and the checkpoints" if trained else "log and the full trace"
            log.error("%s\nThe %s of this run are in %s", sentence, left, folder)
        except OSError:  # a full disk, say: the first error is the one to show
            print_error(f"{sentence}\nWhat this run has left is in {folder}")

    run_on_rank_zero(report)
