"""Check a command line before Hydra reads it: mistakes that it would pass over, or answer with a riddle."""

import shlex
from collections import defaultdict

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from src.cli.errors import keys_like
from src.config.composing import compose, is_choice, parse, values
from src.config.paths import CONFIGS
from src.system.wording import suggest_key

# words that may stand for a number or a switch; None: any, such as "auto" or "0,1"
WORDS_ALLOWED: dict[str, set[str] | None] = defaultdict(
    set, {"trainer.devices": None, "hydra.verbose": None, "trainer.deterministic": {"warn"}, "model.compile": {"auto"}}
)


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
