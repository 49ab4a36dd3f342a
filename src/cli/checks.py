"""Check a command line before Hydra parses it, for errors that Hydra ignores or reports unclearly."""

import shlex

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from src.cli.errors import keys_like
from src.config.composing import compose_choices, is_choice, parse, values
from src.config.paths import CONFIGS
from src.system.wording import suggest_key

ANY_TYPE = ("trainer.devices", "hydra.verbose")  # such as "auto" or "0,1"
STRINGS_ALLOWED = {"trainer.deterministic": "warn", "model.compile": "auto"}  # instead of a boolean
SIZES = ("data.val_size", "data.val_fraction")  # set the size of the validation split, as data.fold also does


def check_options(config_name: str, arguments: list[str]) -> None:
    """Reject unknown options, and several values for a key without a sweep.

    Raises:
        ValueError: the command line has one of these.
    """
    known, others = get_args_parser().parse_known_args(arguments)
    overrides = parse(arguments)
    for option in others:
        if option.startswith("-"):
            key = option.lstrip("-").partition("=")[0].replace("-", "_")
            cfg = compose_choices(config_name, overrides)
            raise ValueError(
                f"There is no option {option}: values are given as key=value.{suggest_key(key, keys_like(key, cfg))}"
            )
    if known.multirun or any(override.key_or_group == "hydra.mode" for override in overrides):
        return
    for override in overrides:
        if override.is_sweep_override():
            line = str(override.input_line)
            key, _, choices = line.partition("=")
            as_list = f" (a list is written {key}=[{choices}])" if "(" not in choices else ""
            raise ValueError(
                f"{line} is a sweep, which needs -m: python src/{config_name}.py -m {shlex.quote(line)} …{as_list}"
            )


def check_fold(arguments: list[str]) -> None:
    """Reject a validation fold together with the size of a validation split.

    Raises:
        ValueError: both are given.
    """
    given = {override.key_or_group: str(override.input_line).lstrip("+") for override in parse(arguments)}
    fold = given.get("data.fold", "=null")
    for size in (given[key] for key in SIZES if key in given and not fold.endswith("=null")):
        raise ValueError(f"{fold} and {size} both choose the validation samples: leave one of them out.")


def check_types(config_name: str, arguments: list[str]) -> None:
    """Reject a string for a number or a boolean, a dot for the slash of a group, and a + before an existing key.

    Other values are checked where they are used; `null` is always accepted.

    Raises:
        ValueError: the command line has one of these.
    """
    overrides = parse(arguments)
    given = [override for override in overrides if not is_choice(override)]
    deleted = any(override.is_delete() for override in given)
    added = [] if deleted else [one for one in given if one.is_add() and not isinstance(one.value(), dict | list)]
    changed = [
        override
        for override in given
        if not (override.is_add() or override.is_delete() or override.key_or_group in ANY_TYPE)
        if any(isinstance(value, str) for value in values(override))
    ]
    if not changed and not added:
        return
    defaults = compose_choices(config_name, overrides)
    for override in added:
        if OmegaConf.select(defaults, override.key_or_group, throw_on_resolution_failure=False) is not None:
            line = str(override.input_line)
            raise ValueError(
                f"{line}: the configuration already has this key; leave out the +: {line.removeprefix('+')}"
            )
    for override in changed:
        key, line = override.key_or_group, str(override.input_line)
        default = OmegaConf.select(defaults, key, throw_on_resolution_failure=False)
        if isinstance(default, DictConfig):
            group = key.replace(".", "/")
            if (CONFIGS / group).is_dir() and "${" not in line:  # an interpolation may refer to another block
                raise ValueError(f"{line}: files of a group are chosen with a slash, {group}=…")
        elif isinstance(default, int | float):
            expected = "true or false" if isinstance(default, bool) else "a number"
            for value in values(override):
                if isinstance(value, str) and not value.startswith("${") and value != STRINGS_ALLOWED.get(key):
                    example = "" if isinstance(default, bool) else f", such as {default}"
                    raise ValueError(f"{key}={value}: it must be {expected}{example}.")


def without_null(arguments: list[str]) -> list[str]:
    """Replace `logger=null`, which Hydra does not accept as a choice, by `logger=none`.

    Raises:
        ValueError: the group has no file none.yaml.
    """
    replaced = []
    for argument in arguments:
        group, _, value = argument.partition("=")
        if value == "null" and (CONFIGS / group).is_dir():
            if not (CONFIGS / group / "none.yaml").is_file():
                raise ValueError(f"{argument}: {group} has no option none; leave it out, or choose another.")
            argument = f"{group}=none"
        replaced.append(argument)
    return replaced
