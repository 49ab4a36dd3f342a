"""Run a program: check its command line, compose the configuration, and report errors without a stack trace.

Nothing here imports torch, so that `--help` and most errors are immediate.
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

from src.cli.checks import check_fold, check_options, check_types, without_null
from src.cli.errors import describe
from src.cli.output import check_form
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


def entry_point(
    config_name: str, prepare: Callable[[], None] | None = None
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Turn a function into the program of `configs/<config_name>.yaml`, like `hydra.main` but with clear errors.

    Args:
        config_name: name of the primary config.
        prepare: called before Hydra composes the configuration; it may change `sys.argv`.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        full_error = os.environ.get(FULL_ERROR)
        reported: list[Exception] = []

        def job(cfg: DictConfig) -> Any:
            folder = Path(HydraConfig.get().runtime.output_dir)
            watch_contention()
            listener.sentence = lambda: describe_interruption(folder)
            with set_env(FULL_ERROR, full_error):  # processes that the job starts see the user's choice
                try:
                    with locked(folder):
                        return run_with_status(folder, lambda: task(cfg), describe)
                except SystemExit as end:  # raised by Lightning on KeyboardInterrupt
                    if isinstance(end.__context__, BrokenPipeError):
                        raise  # raised by rich when nothing reads the output any more
                    run_on_rank_zero(lambda: print_error(describe_interruption(folder)))
                    sys.exit(listener.status)
                except Interrupted as interruption:
                    sentence = str(interruption)
                    run_on_rank_zero(lambda: log.error("%s", sentence))
                    if HydraConfig.get().mode == RunMode.RUN:
                        sys.exit(RESUMABLE)
                    reported.append(interruption)
                    raise  # in a sweep, the other jobs still run
                except Exception as error:
                    if listener.received:  # the error is a consequence of the interruption
                        raise KeyboardInterrupt from error
                    report_failure(error)
                    if HydraConfig.get().mode == RunMode.RUN and full_error != "1":
                        sys.exit(1)  # Hydra would add a line of its own to an exception
                    reported.append(error)
                    raise  # in a sweep, Hydra runs the other jobs first

        job.__module__, job.__qualname__ = task.__module__, f"{task.__name__}.job"  # importable by other processes

        def check_command_line() -> None:
            check_words(config_name, sys.argv[1:], CONFIGS)
            if prepare is not None:
                prepare()
            sys.argv[1:] = without_null(quote_paths(sys.argv[1:]))
            check_options(config_name, sys.argv[1:])
            check_fold(sys.argv[1:])
            check_form(sys.argv[1:])
            check_types(config_name, sys.argv[1:])

        def main() -> None:
            listener.listen()
            let_waiting_threads_yield()
            try:
                check_command_line()
                # Hydra then raises errors instead of printing them
                with set_env(FULL_ERROR, "1"), describe_background_errors(full_error == "1"):
                    hydra.main(str(CONFIGS), config_name, version_base="1.3")(job)()
            except (Exception, KeyboardInterrupt) as error:
                if full_error == "1" and isinstance(error, Exception):
                    raise
                if listener.received or isinstance(error, KeyboardInterrupt):
                    run_on_rank_zero(lambda: print_error("Interrupted."))
                    sys.exit(listener.status)
                if error not in reported:
                    sentence = describe(error, config_name, sys.argv[1:])
                    run_on_rank_zero(lambda: print_error(sentence))
                sys.exit(RESUMABLE if isinstance(error, Interrupted | SweepInterrupted) else 1)

        main.job = job  # type: ignore[attr-defined]
        main.task, main.check_command_line = task, check_command_line  # type: ignore[attr-defined]  # for src.api
        return main

    return decorate


def describe_interruption(folder: Path) -> str:
    """Describe the interruption of a run outside of training, and how to resume it if it has a checkpoint."""
    has_checkpoint = (folder / CHECKPOINTS / LAST).is_file()
    return f"Interrupted{'; to resume: ' + shlex.quote(f'resume={folder}') if has_checkpoint else ''}."


@contextmanager
def set_env(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable within the context; None unsets it."""
    before = os.environ.pop(name, None)
    try:
        os.environ.update({name: value} if value is not None else {})
        yield
    finally:
        os.environ.pop(name, None)
        os.environ.update({name: before} if before is not None else {})


@contextmanager
def describe_background_errors(full: bool) -> Iterator[None]:
    """Report failed writes by other threads and the log, such as on a full disk, briefly unless `full`."""
    hook, raising = threading.excepthook, logging.raiseExceptions

    def report(thread_error: threading.ExceptHookArgs) -> None:
        if isinstance(thread_error.exc_value, OSError):
            print_error(describe(thread_error.exc_value))
        else:
            hook(thread_error)

    if not full:
        threading.excepthook, logging.raiseExceptions = report, False
    try:
        yield
    finally:
        threading.excepthook, logging.raiseExceptions = hook, raising


def report_failure(error: Exception) -> None:
    """Report why a job failed, and where its log, trace and checkpoints are."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    sentence = describe(error)

    def report() -> None:
        if isinstance(error, FolderInUse):  # its log is that of the other process
            print_error(sentence)
            return
        try:
            write_whole(folder / TRACEBACK, "".join(traceback.format_exception(error)))
            trained = (folder / CHECKPOINTS).is_dir()
            files = "log, the full trace and the checkpoints" if trained else "log and the full trace"
            log.error("%s\nThe %s of this run are in %s", sentence, files, folder)
        except OSError:  # a full disk, for instance: the first error is the one to show
            print_error(f"{sentence}\nThe files of this run are in {folder}")

    run_on_rank_zero(report)
