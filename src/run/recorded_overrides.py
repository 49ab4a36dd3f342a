"""Replay the recorded overrides of a run, for `resume=` and `reproduce=`, as far as files can be trusted.

Config group choices and plain values are replayed. A value must be for a key of this checkout's configuration and of
the same type; only the command line may set output locations, trusted code and Hydra's own settings.
"""

import logging
import os
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.config.composing import compose, is_choice, parse
from src.config.paths import CONFIGS
from src.config.quoting import literal, name_of
from src.config.stored_config import UNKNOWN, check_plain, leaves, plain_config
from src.config.targets import check_target
from src.run.file_names import CONFIG, OVERRIDES
from src.system.cpu import allowed_cpus
from src.system.json_files import write_whole
from src.system.safe_files import read_yaml
from src.system.wording import first_line, suggest

log = logging.getLogger(__name__)

MAX_OVERRIDES, MAX_CHARACTERS, MAX_DEPTH = 500, 4_000, 20
VOLATILE = ("resume", "reproduce", "seed")  # expected to differ between a run and its rerun
# specific to one run, or reserved for the command line: silently dropped
DROPPED = (*VOLATILE, "allowed_targets", "extras.next_commands", "data.download", "format")
CHOICE = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")  # the name of a file below its group
GROUP = re.compile(r"\w+(/\w+)*(@[\w.:]*)?")
# a field of a format string, such as a checkpoint's name: a metric and its format spec, no attribute access
FIELD = re.compile(r"\{[\w/-]*(:[\w.,+<>=^-]*)?\}")
KEY = re.compile(r"\w+(\.[\w/]+)*")
QUOTED = re.compile(r"\\.|'(?:\\.|[^'\\])*'|" r'"(?:\\.|[^"\\])*"')  # or escaped: its brackets are plain characters
DATA_DIRS = ("paths.data_dir", "data.data_dir")  # where a dataset is downloaded to; no download if a record sets it
# locations that are read, as are all of data.*
INPUTS = ("ckpt_path", "init_from", "teacher", "model.net.weights", "paths.data_dir")
# keys that start processes here, or wait for those of other machines; trainer=ddp takes them from this checkout
PROCESSES = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")
# keys of callbacks, loggers and the trainer, absent from configs/, whose classes use them as output locations
OUTPUT_KEY = re.compile(r"(callbacks|logger|trainer)\..*(dir|path|location|uri|url)[^.]*")


def replayable_overrides(
    folder: Path, cli_keys: Sequence[str] = (), allowed: Sequence[str] = (), recipe: Sequence[str] = ()
) -> list[str]:
    """Return the overrides of a recorded run that may be replayed.

    Args:
        folder: the run directory.
        cli_keys: keys set on the command line; their recorded values are ignored.
        allowed: packages or modules whose classes the command line trusts.
        recipe: the override that chooses the recipe, instead of a recorded one.

    Raises:
        ValueError: the record is damaged, or contains anything but choices and values that are allowed.
    """
    path = folder / OVERRIDES
    replayed: list[Override] = []
    choices: list[Override] = []
    keys: set[str] = set()  # keys of the values to replay
    for override in parse_recorded(path):
        if override.key_or_group == "recipe" and recipe:
            continue
        if is_choice(override):
            check_choice(path, override)
            choices.append(override)
        elif override.key_or_group in (*DROPPED, *cli_keys):
            continue
        else:
            keys.add(override.key_or_group)
        replayed.append(override)
    cfg = compose_recorded(path, [*choices, *parse([*recipe])]) if keys else OmegaConf.create()
    texts = [
        text
        for override in replayed
        if (text := str(override.input_line) if is_choice(override) else replayed_text(path, override, cfg, allowed))
    ]
    sets_data_dir = not keys.isdisjoint(DATA_DIRS)
    if sets_data_dir and "data.download" not in cli_keys and node_of(cfg, "data.download") is not MISSING:
        texts.append("data.download=false")
    return texts


def compose_recorded(path: Path, choices: list[Override]) -> DictConfig:
    """Compose the configuration that recorded choices select in this checkout.

    Raises:
        ValueError: it lacks one of them, such as a model that has been renamed since.
    """
    try:
        return compose("train", choices)
    except MissingConfigException as error:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        hint = suggest(name, sorted(file.stem for file in (CONFIGS / group).glob("*.yaml")))
        raise ValueError(f"{path} is refused: there is no {group}={name} in this checkout.{hint}") from error
    except HydraException as error:
        raise ValueError(f"{path} is refused: {first_line(error)}.") from error


def record_overrides(folder: Path, overrides: list[str]) -> None:
    """Record the overrides given on resuming, so that the next resume replays them."""
    dropped = (*VOLATILE, "ckpt_path", "allowed_targets", "format")
    kept = [override for override in overrides if name_of(override) not in dropped]
    recorded = [str(override.input_line) for override in parse_recorded(folder / OVERRIDES)]
    kept += [override for override in recorded if override.startswith("ckpt_path=")]
    write_whole(folder / OVERRIDES, yaml.safe_dump(kept, sort_keys=False))


def parse_recorded(path: Path) -> list[Override]:
    """Parse the overrides in a file, none of which may concern Hydra itself.

    Raises:
        ValueError: the file is damaged, or an override concerns Hydra.
    """
    try:
        texts = read_yaml(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path} cannot be read: there is no such file.") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path} is damaged: it is not a list of overrides.")
    if len(texts) > MAX_OVERRIDES:
        raise ValueError(f"{path} is damaged: it lists {len(texts):,} overrides.")
    parsed = []
    for text in texts:
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"{path} is damaged: {text[:60]}… is too long for an override.")
        if nesting(text) > MAX_DEPTH:
            raise ValueError(f"{path} is damaged: {text[:60]}… is nested too deeply for an override.")
        if not text.isprintable():
            raise ValueError(f"{path} is damaged: {text!a} is not an override.")
        if text.startswith("-"):
            raise ValueError(f"{path} is refused: {text} would change how Hydra itself runs.")
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
        except (HydraException, ValueError) as error:
            raise ValueError(f"{path} is damaged: {text} is not an override.") from error
        key = override.key_or_group
        if re.split(r"[./@]", key)[0] == "hydra":
            raise ValueError(f"{path} is refused: {text} would change how Hydra itself runs.")
        if override.is_sweep_override() or not (GROUP if is_choice(override) else KEY).fullmatch(key):
            raise ValueError(f"{path} is damaged: {text} is not an override of a run.")
        parsed.append(override)
    return parsed


def nesting(text: str) -> int:
    """Return how deep the brackets of an override are nested, leaving out quoted and escaped ones."""
    steps = ((character in "[{(") - (character in "]})") for character in QUOTED.sub("", text))
    return max(accumulate(steps), default=0)


def check_choice(path: Path, override: Override) -> None:
    """Check that a choice names files of its config group and keeps the group's package.

    Raises:
        ValueError: it reads other files or changes the package.
    """
    package = (override.package or override.key_or_group).removeprefix("_global_.")
    if re.split(r"[./]", package)[0] != override.key_or_group.partition("/")[0]:
        raise ValueError(
            f"{path} is refused: {override.input_line} would move {override.key_or_group} to another package."
        )
    value = override.value()
    names = value if isinstance(value, list) else [value]
    if not all(name is None or (isinstance(name, str) and CHOICE.fullmatch(name)) for name in names):
        raise ValueError(f"{path} is refused: {override.input_line} would read a configuration outside configs/.")


def replayed_text(path: Path, override: Override, cfg: DictConfig, allowed: Sequence[str]) -> str | None:
    """Return a value override as it is replayed; None if only the command line may set it.

    Raises:
        ValueError: the override is not allowed.
    """
    key, text = override.key_or_group, str(override.input_line)
    default = node_of(cfg, key)
    if reason := command_line_only(key, override.value(), default):
        log.warning(
            "Ignored in %s because it sets %s: %s; set it again on the command line if needed.", path, reason, text
        )
        return None
    if default is MISSING and not key.endswith("._target_"):
        if key in DATA_DIRS:  # there is no key to disable the download either
            raise ValueError(f"{path} is refused: its dataset has no download folder to set ({text}).")
        parent = node_of(cfg, key.rpartition(".")[0])
        is_added = override.is_add() or override.is_force_add()
        if not (is_added and isinstance(parent, DictConfig) and "_target_" in parent):
            raise ValueError(f"{path} is refused: there is no {key} in the configuration of this checkout ({text}).")
    if override.is_delete():
        return text
    value: Any = override.value()
    if any("${" in str(part) for part in (text, *(leaf for _, leaf in leaves(value, key)))):
        value = stored_value(path.with_name(CONFIG.name), key, text)
        text = f"{text[: text.index(key)]}{key}={literal(value)}"
    check_plain(value, f"{path}: {key}")
    for name, leaf in leaves(value, key):
        check_leaf(path, name, leaf, allowed)
    if default is not MISSING and not same_type(value, default):
        raise ValueError(f"{path} is refused: {text} has a different type from {key} in this checkout.")
    return text


def check_leaf(path: Path, key: str, value: Any, allowed: Sequence[str]) -> None:
    """Check a single value of a record.

    Raises:
        ValueError: it names a class that may not be built, another special key of Hydra, or a location outside the run.
    """
    block, _, name = key.rpartition(".")
    if name == "_target_":
        check_target(block, value, allowed)
    elif any(part.startswith("_") for part in key.split(".")) and not (name == "_partial_" and isinstance(value, bool)):
        raise ValueError(f"{path} is refused: {key} would change what is built.")
    elif isinstance(value, str) and set(FIELD.sub("", value)) & {*"{}"}:
        raise ValueError(f"{path} is refused: {key}={value[:200]} holds more than plain fields such as {{epoch:03d}}.")
    elif isinstance(value, str) and not key.startswith("data.") and key not in INPUTS and leads_outside(value):
        raise ValueError(f"{path} is refused: {key}={value} leads out of the run's folder: set it on the command line.")


def leads_outside(text: str) -> bool:
    """Return whether a string, taken as a relative path, could lead out of its folder.

    Environment variables count, because TensorBoard's logger expands them.
    """
    if os.path.expandvars(text) != text:
        return True
    parts = re.split(r"[/\\]", text)
    return text.startswith(("/", "\\", "~")) or ".." in parts or bool(re.match(r"\w+:[/\\]", text))


class Missing:
    """Marks a key that a configuration does not have."""


MISSING = Missing()


def node_of(cfg: DictConfig, key: str) -> Any:
    """Return the unresolved value of a dotted key in a configuration; `MISSING` if there is no such key."""
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in set(node):
            return MISSING
        node = node._get_node(part)
    return node if isinstance(node, DictConfig | ListConfig) else node._value()


def command_line_only(key: str, value: Any, default: Any) -> str | None:
    """Return what a key controls if only the command line may set it (processes or output locations), else None.

    A number of processes that this machine has enough CPUs for is replayed.
    """
    if key == "trainer.devices" and type(value) is int and 1 <= value <= allowed_cpus():
        return None
    if key in PROCESSES:
        return "which processes run"
    return "where something is written" if writes_somewhere(key, default) else None


def writes_somewhere(key: str, default: Any) -> bool:
    """Return whether a key sets an output location: a folder, or a value that this checkout derives from one."""
    if key in INPUTS or key.startswith("data."):
        return False
    if key.startswith("paths.") or (default is MISSING and OUTPUT_KEY.fullmatch(key)):
        return True
    return isinstance(default, str) and bool(re.search(r"\$\{(paths\.|hydra:)", default))


def same_type(value: Any, default: Any) -> bool:
    """Return whether a value has the type of a default; null and interpolations match any type."""
    if value is None or default is None or (isinstance(default, str) and ("${" in default or default == UNKNOWN)):
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        # a switch may take a word, as in compile=auto
        return isinstance(value, bool | str) if isinstance(default, bool) else isinstance(default, str)
    if isinstance(default, int | float):
        return isinstance(value, int | float | str)
    if isinstance(default, DictConfig):
        return isinstance(value, dict)
    if isinstance(default, ListConfig):
        return isinstance(value, list)
    return not isinstance(value, dict)


def stored_value(path: Path, key: str, text: str) -> Any:
    """Return the resolved value of an override that refers to other keys, as stored by the run.

    Raises:
        ValueError: the value came from the environment, or is not stored.
    """
    value: Any = plain_config(read_yaml(path), str(path), path.parent.parent) if path.is_file() else {}
    for part in key.split("."):
        value = value.get(part, UNKNOWN) if isinstance(value, dict) else UNKNOWN
    if any(leaf == UNKNOWN for _, leaf in leaves(value, key)):
        raise ValueError(f"The run's record has no resolved value for {text}: set {key}=… again.")
    return value
