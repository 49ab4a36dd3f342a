"""Describe errors to the user in one sentence: which value is wrong, and what to do."""

import errno
import re
import traceback
from pathlib import Path

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigTypeError, InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError

from src.cli.words import options_named
from src.config.composing import compose_choices, parse
from src.config.paths import CONFIGS
from src.run.interruption import SweepFailed, SweepInterrupted
from src.system.safe_files import printable_lines
from src.system.wording import dotted, suggest, suggest_key

SOURCE = CONFIGS.parent / "src"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the limit of a disk, a quota or a file


def describe(error: BaseException, config_name: str | None = None, overrides: list[str] | None = None) -> str:
    """Describe an error in one printable sentence: which value is wrong, and what to do."""
    return printable_lines(sentence_of(error, config_name, overrides))


def sentence_of(error: BaseException, config_name: str | None, overrides: list[str] | None) -> str:
    """Return the sentence, which may contain control characters from names."""
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        return describe_choice(error, overrides or [])
    if isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, OmegaConfBaseException):
        key = error.__cause__.full_key or str(error.__cause__.key)
        if isinstance(error.__cause__, ConfigTypeError):  # such as a mapping for a list
            return f"{key} cannot take this value: {str(error.__cause__).splitlines()[0]}."
        return describe_key(key, config_name, overrides or [])
    if isinstance(error, ConfigCompositionException) and (group := re.match(r"Could not override '(.+?)'", str(error))):
        return f"{group[1]}= is not a group of this program; see --help."
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} cannot be parsed: write key=value, or key=a,b for a sweep, with quotes around text with "
            "special characters: \"key='a, b'\"."
        )
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return describe_building(error, error.__cause__)
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: this is not YAML: {error.problem}."
    if isinstance(error, MissingMandatoryValue) and (open_key := error.full_key):
        part = ", or choose a file that sets it: those in base/ are parts of others" if "." in open_key else ""
        return f"{open_key} has no value: give {open_key}=…{part}."
    if isinstance(error, InterpolationKeyError) and (absent := re.search(r"key '(data\.\w+)' not found", str(error))):
        return (
            f"The model needs {absent[1]}, which these data do not have, because it takes another kind of input: "
            "choose other data or another model."
        )
    if isinstance(error, OSError) and error.errno in FULL:
        where = f" for {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}: free up space, or write elsewhere with paths.log_dir=<folder>."
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
    return f"{type(error).__name__}: {sentence}".removesuffix(": ") + own_line(error)


def own_line(error: BaseException) -> str:
    """Return " (file:line)" of the innermost frame of a traceback in this checkout; empty if there is none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(f"{SOURCE}/")]
    return f" ({Path(frames[-1].filename).relative_to(SOURCE.parent)}:{frames[-1].lineno})" if frames else ""


def describe_choice(error: MissingConfigException, overrides: list[str]) -> str:
    """Report that a group has no such option, with the file that refers to it, if any, and similar options."""
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    typed = f"{group}={name}" in overrides  # Hydra may name a file although an override made the choice
    referrer = None if typed else re.match(r"In '(\S+/\S+)':", str(error))
    of_group = error.options and f"Available options in '{group}'" in str(error)
    options = error.options if of_group else sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
    choice = f"{group}/{name}, which configs/{referrer[1]}.yaml refers to" if referrer else f"{group}={name}"
    return f"There is no {choice}.{suggest(name, options or [])}"


def describe_building(error: InstantiationException, cause: BaseException) -> str:
    """Report which object cannot be built, with its key and similar names."""
    from src.cli.built_objects import describe_argument, describe_target

    message, _, where = (part.strip() for part in str(error).partition("full_key: "))
    target = re.search(r"^Error (locating|in call to|in creating) (?:target |partial\()'?([\w.]+)", message)
    missing = cause.__cause__.name if isinstance(cause.__cause__, ModuleNotFoundError) else None
    if target and target[1] == "locating" and missing and f"{target[2]}.".startswith(f"{missing}."):
        return f"{where}.{describe_target(target[2])}".lstrip(".")
    if target and isinstance(cause, TypeError) and (sentence := describe_argument(target[2], where, str(cause))):
        return sentence
    return f"{where}: {describe(cause)}" if where else describe(cause)


def describe_key(key: str, config_name: str | None, overrides: list[str]) -> str:
    """Report that a key does not exist, with similar ones."""
    given = {one.key_or_group: one.value() for one in parse(overrides)}
    key = next((name for name in given if f"{name}.".startswith(f"{key}.")), key)  # as given, in full
    sentence = f"There is no {key} in the configuration."
    if config_name is None:
        return sentence
    choices = options_named(str(given.get(key, "")), CONFIGS, near=key)
    if choices:
        return f"{sentence} Did you mean {' or '.join(choices)}?"
    try:
        cfg = compose_choices(config_name, parse(overrides))
    except HydraException:
        return sentence
    return f"{sentence}{suggest_key(key, keys_like(key, cfg))} To add a new key, write +{key}=…"


def keys_like(key: str, cfg: DictConfig) -> list[str]:
    """Return the keys of Hydra's node if `key` belongs to it, otherwise all others."""
    own = key.startswith("hydra.")
    return [one for one in dotted(OmegaConf.to_container(cfg)) if one.startswith("hydra.") == own and one != "hydra"]
