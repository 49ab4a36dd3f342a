"""The command line: compose, check, run, and answer a mistake with a sentence instead of a stack trace.

Nothing here imports torch, so that `--help` and most mistakes are answered at once.
"""

import errno
import logging
import os
import re
import shlex
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError

from src.cli.quoting import quote_paths
from src.cli.suggestions import dotted, suggest, suggest_key
from src.cli.words import check_words, named
from src.data.class_folders import count_classes
from src.run.checkpoint_names import LAST
from src.run.interruption import RESUMABLE, Interrupted, SweepFailed, SweepInterrupted
from src.run.status import recorded
from src.system.json_files import write_whole
from src.system.locks import locked
from src.system.openmp import let_waiting_threads_yield, watch_contention
from src.system.ranks import tell
from src.system.signals import listener

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / ".project-root").is_file())
CONFIGS = ROOT / "configs"
FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's name for "show me the whole stack trace"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, a file's limit
# words that may stand for a number or a switch; None: any, such as "auto" or "0,1"
WORDS_ALLOWED: dict[str, set[str] | None] = defaultdict(
    set, {"trainer.devices": None, "hydra.verbose": None, "trainer.deterministic": {"warn"}, "model.compile": {"auto"}}
)

log = logging.getLogger(__name__)

OmegaConf.register_new_resolver("project_root", lambda: str(ROOT), replace=True)
OmegaConf.register_new_resolver("count_classes", count_classes, replace=True)


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
                        return recorded(folder, lambda: task(cfg), describe)
                except SystemExit:  # how Lightning ends a run at KeyboardInterrupt
                    tell(lambda: print_error(interrupted(folder)))
                    sys.exit(listener.status)
                except Interrupted as interruption:
                    sentence = str(interruption)
                    tell(lambda: log.error("%s", sentence))
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
                tell(lambda: print_error("Interrupted."))
                sys.exit(listener.status)
            except Exception as error:
                if full_error == "1":
                    raise
                if listener.received:
                    tell(lambda: print_error("Interrupted."))
                    sys.exit(listener.status)
                if error not in reported:
                    sentence = describe(error, config_name, sys.argv[1:])
                    tell(lambda: print_error(sentence))
                sys.exit(RESUMABLE if isinstance(error, Interrupted | SweepInterrupted) else 1)

        main.job = job  # type: ignore[attr-defined]
        return main

    return decorate


def guarded(action: Callable[[], Any]) -> None:
    """Do what has to come before Hydra, and answer its mistakes likewise."""
    let_waiting_threads_yield()
    try:
        check_words(Path(sys.argv[0]).stem, sys.argv[1:], CONFIGS)
        action()
    except Exception as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        sentence = describe(error)
        tell(lambda: print_error(sentence))
        sys.exit(1)


def interrupted(folder: Path) -> str:
    """What is said of a run that is interrupted while it does not train."""
    has_checkpoint = (folder / "checkpoints" / LAST).is_file()
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


def print_error(sentence: str) -> None:
    """Write an error to the terminal."""
    sys.stderr.write(f"ERROR: {sentence}\n")


def report_failure(error: Exception) -> None:
    """Say what went wrong with a job, and where what it left behind is."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    sentence = describe(error)

    def report() -> None:
        try:
            write_whole(folder / "traceback.txt", "".join(traceback.format_exception(error)))
            trained = (folder / "checkpoints").is_dir()
            left = "log, the full trace and the checkpoints" if trained else "log and the full trace"
            log.error("%s\nThe %s of this run are in %s", sentence, left, folder)
        except OSError:  # a full disk, say: the first error is the one to show
            print_error(f"{sentence}\nWhat this run has left is in {folder}")

    tell(report)


def describe(error: BaseException, config_name: str | None = None, overrides: list[str] | None = None) -> str:
    """Put an error into a sentence: which value is wrong, and what to do."""
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        return describe_choice(error)
    if isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, OmegaConfBaseException):
        key = error.__cause__.full_key or str(error.__cause__.key)
        return describe_key(key, config_name, overrides or [])
    if isinstance(error, ConfigCompositionException) and (
        foreign := re.match(r"Could not override '(.+?)'", str(error))
    ):
        return f"{foreign[1]}= is no group that this program chooses from; --help tells what it takes."
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} cannot be read: write key=value, or key=a,b for a sweep, with quotes around text that "
            "holds other signs: \"key='a, b'\"."
        )
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return describe_building(error, error.__cause__)
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: this is no YAML: {error.problem}."
    if isinstance(error, MissingMandatoryValue) and (open_key := error.full_key):
        part = ", or choose a file that does: those in base/ are parts of others" if "." in open_key else ""
        return f"{open_key} has no value: say {open_key}=…{part}."
    if isinstance(error, OSError) and error.errno in FULL:
        where = f" for {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}: make room, or write elsewhere with paths.log_dir=<folder>."
    paragraph = str(error).strip().partition("\n\n")[0]
    sentence = " ".join(line.strip() for line in paragraph.splitlines())
    if (
        isinstance(
            error,
            ValueError
            | OSError
            | ImportError
            | FloatingPointError
            | HydraException
            | OmegaConfBaseException
            | SweepFailed
            | SweepInterrupted,
        )
        and sentence
    ):
        return sentence
    return f"{type(error).__name__}: {sentence}".removesuffix(": ")


def describe_choice(error: MissingConfigException) -> str:
    """Say that a group has no such file, which file asks for it, and what the group has."""
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    asks = re.match(r"In '(\S+/\S+)':", str(error))  # a choice of the command line is asked for by none of a group
    of_group = error.options and f"Available options in '{group}'" in str(error)
    options = error.options if of_group else sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
    told = f"{group}/{name}, which configs/{asks[1]}.yaml asks for" if asks else f"{group}={name}"
    return f"There is no {told}.{suggest(name, options or [])}"


def describe_building(error: InstantiationException, cause: BaseException) -> str:
    """Say what cannot be built, where it stands, and what may have been meant."""
    from src.cli.built_objects import describe_argument, describe_target

    message, _, where = (part.strip() for part in str(error).partition("full_key: "))
    target = re.search(r"^Error (locating|in call to|in creating) (?:target |partial\()'?([\w.]+)", message)
    lacking = cause.__cause__.name if isinstance(cause.__cause__, ModuleNotFoundError) else None
    if target and target[1] == "locating" and lacking and f"{target[2]}.".startswith(f"{lacking}."):
        return f"{where}.{describe_target(target[2])}".lstrip(".")
    if target and isinstance(cause, TypeError) and (found := describe_argument(target[2], where, str(cause))):
        return found
    return f"{where}: {describe(cause)}" if where else describe(cause)


def describe_key(key: str, config_name: str | None, overrides: list[str]) -> str:
    """Say that a key does not exist, and which ones that do may be meant."""
    given = {one.key_or_group: one.value() for one in parse(overrides)}
    key = next((name for name in given if f"{name}.".startswith(f"{key}.")), key)  # as it was written, to its end
    sentence = f"There is no {key} in the configuration."
    if config_name is None:
        return sentence
    choices = named(str(given.get(key, "")), CONFIGS, near=key)
    if choices:
        return f"{sentence} Did you mean {' or '.join(choices)}?"
    try:
        cfg = compose(config_name, [override for override in parse(overrides) if is_choice(override)], with_hydra=True)
    except HydraException:
        return sentence
    return f"{sentence}{suggest_key(key, keys_like(key, cfg))} To add a key that is not there, write +{key}=…"


def keys_like(key: str, cfg: DictConfig) -> list[str]:
    """The keys of a configuration: those of Hydra's own part for a key of that part, the others for any other key."""
    own = key.startswith("hydra.")
    return [one for one in dotted(OmegaConf.to_container(cfg)) if one.startswith("hydra.") == own and one != "hydra"]


def check_options(config_name: str, arguments: list[str]) -> None:
    """Refuse options that there are not, and several values for a key where no sweep is asked for.

    Raises:
        ValueError: names the word, and how it is written.
    """
    known, others = get_args_parser().parse_known_args(arguments)
    overrides = parse(arguments)
    for option in others:
        if option.startswith("-"):
            key = option.lstrip("-").partition("=")[0].replace("-", "_")
            cfg = compose(config_name, [override for override in overrides if is_choice(override)], with_hydra=True)
            raise ValueError(
                f"There is no option {option}: values are given as key=value.{suggest_key(key, keys_like(key, cfg))}"
            )
    if known.multirun or any(override.key_or_group == "hydra.mode" for override in overrides):
        return
    for override in overrides:
        if override.is_sweep_override():
            line = str(override.input_line)
            key, _, several = line.partition("=")
            as_list = f" (a list is written {key}=[{several}])" if "(" not in several else ""
            raise ValueError(
                f"{line} is a sweep, which takes -m: python src/{config_name}.py -m {shlex.quote(line)} …{as_list}"
            )


def check_types(config_name: str, overrides: list[str]) -> None:
    """Refuse a word where the configuration holds a number or a switch, and a + before a key that it has.

    Only words are checked: what a number may be is known where it is used, and `null` stands for anything.

    Raises:
        ValueError: names the key, the value, and what is wanted.
    """
    given = [override for override in parse(overrides) if not is_choice(override)]
    deleted = any(override.is_delete() for override in given)
    added = [] if deleted else [one for one in given if one.is_add() and not isinstance(one.value(), dict | list)]
    words = [
        override
        for override in given
        if WORDS_ALLOWED[override.key_or_group] is not None
        if override.is_add() is override.is_delete() is False
        if any(isinstance(value, str) for value in values(override))
    ]
    if not words and not added:
        return
    defaults = compose(config_name, [override for override in parse(overrides) if is_choice(override)], with_hydra=True)
    for override in added:
        if OmegaConf.select(defaults, override.key_or_group, throw_on_resolution_failure=False) is not None:
            line = str(override.input_line)
            raise ValueError(f"{line}: the configuration has this key; leave out the +, {line.removeprefix('+')}")
    for override in words:
        default = OmegaConf.select(defaults, override.key_or_group, throw_on_resolution_failure=False)
        if isinstance(default, bool):
            wanted = "true or false"
        elif isinstance(default, int | float):
            wanted = "a number"
        elif (
            isinstance(default, DictConfig) and (CONFIGS / (group := override.key_or_group.replace(".", "/"))).is_dir()
        ):
            if "${" not in str(override.input_line):  # a reference to another block is one
                raise ValueError(f"{override.input_line}: files of a group are chosen with a slash, {group}=…")
            continue
        else:
            continue
        strings = [str(value) for value in values(override) if isinstance(value, str)]
        for word in strings:
            if word.startswith("${") or word in (WORDS_ALLOWED[override.key_or_group] or ()):  # interpolation: anything
                continue
            raise ValueError(f"{override.key_or_group}={word}: it must be {wanted}, such as {default}.")


def without_null(arguments: list[str]) -> list[str]:
    """The arguments with `logger=none` for `logger=null`, which Hydra takes for no choice at all.

    Raises:
        ValueError: the group has no such file.
    """
    found = []
    for argument in arguments:
        group, _, value = argument.partition("=")
        if value == "null" and (CONFIGS / group).is_dir():
            if not (CONFIGS / group / "none.yaml").is_file():
                raise ValueError(
                    f"{argument} stands for {group}=none, which there is not: leave it out, or choose another."
                )
            argument = f"{group}=none"
        found.append(argument)
    return found


def parse(overrides: list[str]) -> list[Override]:
    """Read overrides as Hydra does; its own options, which begin with a dash, and their values are left out."""
    texts = [text for text in overrides if not text.startswith("-") and (text.startswith("~") or "=" in text)]
    return OverridesParser.create().parse_overrides(texts)


def values(override: Override) -> list[Any]:
    """The value of an override, or each of those that a sweep such as lr=0.1,0.01 goes through."""
    value = override.value()
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def is_choice(override: Override) -> bool:
    """Whether an override chooses a file of a config group, such as model=mnist_cnn_68k."""
    return (CONFIGS / override.key_or_group.partition("@")[0]).is_dir()


def compose(config_name: str, overrides: list[Override], with_hydra: bool = False) -> DictConfig:
    """Compose the configuration from a choice of groups alone, with the values that their files hold.

    Of a sweep over choices the first is taken. Hydra's own part is left out unless it is asked for.
    """
    lines = [
        f"{override.get_key_element()}={values(override)[0]}" if override.is_sweep_override() else override.input_line
        for override in overrides
        if override.input_line
    ]
    if GlobalHydra.instance().is_initialized():
        loader = GlobalHydra.instance().config_loader()
        return loader.load_configuration(config_name, lines, run_mode=RunMode.RUN)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(config_name, lines, return_hydra_config=with_hydra)
