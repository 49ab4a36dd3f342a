"""The configuration of a run as it is stored with the run: plain values, every interpolation resolved.

What is read back may come from anywhere. It is taken as data: nothing of it is composed or resolved by OmegaConf before
it is known to hold no interpolation.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.paths import ROOT

ENVIRONMENT = "oc.env"  # the resolver of its variables
UNKNOWN = "???"  # OmegaConf's word for a value that has yet to be given
DEEPEST, MOST_VALUES, MOST_CHARACTERS, LARGEST = 32, 20_000, 10_000, 2**64  # far beyond what this project writes
REFERENCE = re.compile(r"\$\{(?:(?P<resolver>[a-z_]+):(?P<words>[^${}]*)|(?P<key>[\w.]+))\}")
MASK = "VALUE_FROM_THE_ENVIRONMENT"  # a word that resolvers such as oc.decode leave as it is


def to_stored(cfg: DictConfig) -> dict[str, Any]:
    """A configuration with all interpolations resolved; what comes from the environment stays unknown."""
    plain: Any = OmegaConf.to_container(cfg)
    data = plain.get("data")
    if isinstance(data, dict) and "count_classes:" in str(data.get("num_classes")):
        data["num_classes"] = cfg.data.num_classes  # counted in the real folder, whoever has named it
    masked = OmegaConf.create(mapped(plain, lambda text: MASK if ENVIRONMENT in text and "${" in text else text))
    resolved: Any = OmegaConf.to_container(masked, resolve=True)
    return mapped(resolved, lambda text: UNKNOWN if MASK in text else text)


def mapped(node: Any, change: Callable[[str], Any]) -> Any:
    """The same nested dicts and lists with each text changed."""
    if isinstance(node, dict):
        return {key: mapped(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [mapped(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


def leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every value within nested dicts and lists, with its dotted key."""
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, f"{key}.{name}")
    else:
        yield key, node


def check_plain(config: Any, where: str) -> None:
    """Check that what was read holds plain values alone, within bounds.

    Raises:
        ValueError: names the key of the first value that is something else.
    """
    left, count = [("it", config, 0)], 0
    while left:
        key, node, depth = left.pop()
        count += 1
        problem = ""
        if depth > DEEPEST:
            problem = f"is nested more than {DEEPEST} levels deep"
        elif count > MOST_VALUES:
            problem = f"is one of more than {MOST_VALUES:,} values"
        elif isinstance(node, dict):
            if not all(isinstance(name, str) and len(name) < 200 for name in node):
                problem = "has a key that is no short text"
            left += [(f"{key}.{name}".removeprefix("it."), value, depth + 1) for name, value in node.items()]
        elif isinstance(node, list):
            left += [(f"{key}.{place}", value, depth + 1) for place, value in enumerate(node)]
        elif type(node) not in (str, int, float, bool, type(None)):
            problem = f"is a {type(node).__name__}, and no plain value"
        elif isinstance(node, str) and len(node) > MOST_CHARACTERS:
            problem = f"is a text of {len(node):,} characters"
        elif isinstance(node, int) and abs(node) > LARGEST:
            problem = "is a larger number than this project writes"
        if problem:
            raise ValueError(f"{where} is damaged: {key[:200]} {problem}.")


def plain_config(config: Any, where: str, run_dir: Path) -> dict[str, Any]:
    """A stored configuration as plain values without interpolations.

    Args:
        config: as it was read.
        where: it was read from, for messages.
        run_dir: the folder of its run.

    Raises:
        ValueError: it is no configuration, or has an interpolation that is refused.
    """
    check_plain(config, where)
    if not isinstance(config, dict):
        raise ValueError(f"{where} is damaged: it is no configuration.")
    former = FormerConfig(config, where, run_dir)
    return {key: former.resolved(value, key) for key, value in config.items()}


class FormerConfig:
    """A configuration of a run of a former version, which stored it unresolved.

    Its interpolations are resolved here and nowhere else. Known are references to keys, `${project_root:}`,
    `${hydra:runtime.output_dir}`, `${torchrun:…,2}` and `${now:…}`; what came from the environment is unknown.
    """

    def __init__(self, config: dict[str, Any], where: str, run_dir: Path) -> None:
        self.config, self.where, self.run_dir, self.steps = config, where, run_dir, 0

    def resolved(self, node: Any, key: str, depth: int = 0) -> Any:
        """A node without interpolations.

        Raises:
            ValueError: an interpolation that is not known, or more of them than there can be.
        """
        self.steps += 1
        if isinstance(node, dict):
            if strange := [name for name in node if "${" in name]:
                raise self.refusal(key, strange[0])
            return {name: self.resolved(one, f"{key}.{name}", depth) for name, one in node.items()}
        if isinstance(node, list):
            return [self.resolved(one, f"{key}.{place}", depth) for place, one in enumerate(node)]
        if not isinstance(node, str) or "${" not in node:
            return node
        if depth > DEEPEST or self.steps > MOST_VALUES or "\\${" in node:
            raise self.refusal(key, node)
        if ENVIRONMENT in node:
            return UNKNOWN

        def value_of(match: re.Match[str]) -> Any:
            return self.value_of(match, key, depth + 1)

        whole = REFERENCE.fullmatch(node)
        value = value_of(whole) if whole else REFERENCE.sub(lambda match: str(value_of(match)), node)
        if isinstance(value, str) and ("${" in value or len(value) > MOST_CHARACTERS):
            raise self.refusal(key, node)
        return value

    def value_of(self, match: re.Match[str], key: str, depth: int) -> Any:
        """What one interpolation stands for."""
        if match["key"]:
            found: Any = self.config
            for part in match["key"].split("."):
                if not isinstance(found, dict) or part not in found:
                    raise self.refusal(key, match[0])
                found = found[part]
            return self.resolved(found, match["key"], depth)
        resolver, words = match["resolver"], match["words"].strip()
        default = words.rpartition(",")[2].strip()
        if resolver == "project_root":
            return str(ROOT)
        if resolver == "hydra" and words == "runtime.output_dir":
            return str(self.run_dir)
        if resolver == "torchrun" and default.isdecimal() and len(default) < 6:
            return int(default)
        if resolver == "now":
            return UNKNOWN
        raise self.refusal(key, match[0])

    def refusal(self, key: str, text: str) -> ValueError:
        """The error for an interpolation that is refused."""
        return ValueError(f"{self.where} is refused: {key[:200]}={text[:200]} is an interpolation, and no value.")
