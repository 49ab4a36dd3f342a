"""Put errors into a sentence for the user: which value is wrong, and what to do."""

import errno
import re

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError

from src.cli.words import named
from src.config.composing import compose, is_choice, parse
from src.config.paths import CONFIGS
from src.run.interruption import SweepFailed, SweepInterrupted
from src.system.safe_files import printable_lines
from src.system.wording import dotted, suggest, suggest_key

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, a file's limit


def describe(error: BaseException, config_name: str | None = None, overrides: list[str] | None = None) -> str:
    """Put an error into a sentence that can be printed: which value is wrong, and what to do."""
    return printable_lines(sentence_of(error, config_name, overrides))


def sentence_of(error: BaseException, config_name: str | None, overrides: list[str] | None) -> str:
    """The sentence, with the names in it as they are."""
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
