"""The configuration stored with a run: plain values with all interpolations resolved.

A stored configuration is untrusted: OmegaConf does not process it before it is known to be free of interpolations.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.paths import ROOT

ENVIRONMENT = "oc.env"  # the resolver of environment variables
UNKNOWN = "???"  # OmegaConf's missing value
MAX_DEPTH, MAX_VALUES, MAX_CHARACTERS, MAX_INTEGER = 32, 20_000, 10_000, 2**64  # far beyond what this project writes
REFERENCE = re.compile(r"\$\{(?:(?P<resolver>[a-z_]+):(?P<arguments>[^${}]*)|(?P<key>[\w.]+))\}")
MASK = "VALUE_FROM_THE_ENVIRONMENT"  # resolvers such as oc.decode return it unchanged


def to_stored(cfg: DictConfig) -> dict[str, Any]:
    """Resolve all interpolations of a configuration; values from the environment become "???"."""
    plain: Any = OmegaConf.to_container(cfg)
    data = plain.get("data")
    if isinstance(data, dict) and "count_classes:" in str(data.get("num_classes")):
        data["num_classes"] = cfg.data.num_classes  # counted before the folder's name is masked
    masked = OmegaConf.create(mapped(plain, lambda text: MASK if ENVIRONMENT in text and "${" in text else text))
    resolved: Any = OmegaConf.to_container(masked, resolve=True)
    return mapped(resolved, lambda text: UNKNOWN if MASK in text else text)


def mapped(node: Any, change: Callable[[str], Any]) -> Any:
    """Map every string in nested dicts and lists."""
    if isinstance(node, dict):
        return {key: mapped(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [mapped(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


def leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every value in nested dicts and lists with its dotted key."""
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, f"{key}.{name}")
    else:
        yield key, node


def check_plain(config: Any, where: str) -> None:
    """Raise ValueError unless a configuration consists of plain values within bounds."""
    pending, count = [("it", config, 0)], 0
    while pending:
        key, node, depth = pending.pop()
        count += 1
        problem = ""
        if depth > MAX_DEPTH:
            problem = f"is nested more than {MAX_DEPTH} levels deep"
        elif count > MAX_VALUES:
            problem = f"is one of more than {MAX_VALUES:,} values"
        elif isinstance(node, dict):
            if not all(isinstance(name, str) and len(name) < 200 for name in node):
                problem = "has a key that is not a short string"
            pending += [(f"{key}.{name}".removeprefix("it."), value, depth + 1) for name, value in node.items()]
        elif isinstance(node, list):
            pending += [(f"{key}.{index}", value, depth + 1) for index, value in enumerate(node)]
        elif type(node) not in (str, int, float, bool, type(None)):
            problem = f"is a {type(node).__name__}, not a plain value"
        elif isinstance(node, str) and len(node) > MAX_CHARACTERS:
            problem = f"is a string of {len(node):,} characters"
        elif isinstance(node, int) and abs(node) > MAX_INTEGER:
            problem = "is a larger number than this project writes"
        if problem:
            raise ValueError(f"{where} is damaged: {key[:200]} {problem}.")


def plain_config(config: Any, where: str, run_dir: Path) -> dict[str, Any]:
    """Check a stored configuration and resolve the interpolations of former versions.

    Args:
        config: content of the file.
        where: name of the file, for errors.
        run_dir: folder of its run.

    Raises:
        ValueError: it is not a configuration, or has a forbidden interpolation.
    """
    check_plain(config, where)
    if not isinstance(config, dict):
        raise ValueError(f"{where} is damaged: it is not a configuration.")
    former = FormerConfig(config, where, run_dir)
    return {key: former.resolved(value, key) for key, value in config.items()}


class FormerConfig:
    """A configuration stored by a former version, with unresolved interpolations.

    Resolves references to keys, `${project_root:}`, `${hydra:runtime.output_dir}`, `${torchrun:…,2}` and `${now:…}`;
    values from the environment become "???".
    """

    def __init__(self, config: dict[str, Any], where: str, run_dir: Path) -> None:
        self.config, self.where, self.run_dir, self.steps = config, where, run_dir, 0

    def resolved(self, node: Any, key: str, depth: int = 0) -> Any:
        """Resolve a node; raise ValueError for an unknown interpolation, or too many of them."""
        self.steps += 1
        if isinstance(node, dict):
            if refused := [name for name in node if "${" in name]:
                raise self.refusal(key, refused[0])
            return {name: self.resolved(one, f"{key}.{name}", depth) for name, one in node.items()}
        if isinstance(node, list):
            return [self.resolved(one, f"{key}.{index}", depth) for index, one in enumerate(node)]
        if not isinstance(node, str) or "${" not in node:
            return node
        if depth > MAX_DEPTH or self.steps > MAX_VALUES or "\\${" in node:
            raise self.refusal(key, node)
        if ENVIRONMENT in node:
            return UNKNOWN

        def value_of(match: re.Match[str]) -> Any:
            return self.value_of(match, key, depth + 1)

        whole = REFERENCE.fullmatch(node)
        value = value_of(whole) if whole else REFERENCE.sub(lambda match: str(value_of(match)), node)
        if isinstance(value, str) and ("${" in value or len(value) > MAX_CHARACTERS):
            raise self.refusal(key, node)
        return value

    def value_of(self, match: re.Match[str], key: str, depth: int) -> Any:
        """Resolve one interpolation."""
        if match["key"]:
            node: Any = self.config
            for part in match["key"].split("."):
                if not isinstance(node, dict) or part not in node:
                    raise self.refusal(key, match[0])
                node = node[part]
            return self.resolved(node, match["key"], depth)
        resolver, arguments = match["resolver"], match["arguments"].strip()
        default = arguments.rpartition(",")[2].strip()
        if resolver == "project_root":
            return str(ROOT)
        if resolver == "hydra" and arguments == "runtime.output_dir":
            return str(self.run_dir)
        if resolver == "torchrun" and default.isdecimal() and len(default) < 6:
            return int(default)
        if resolver == "now":
            return UNKNOWN
        raise self.refusal(key, match[0])

    def refusal(self, key: str, text: str) -> ValueError:
        """Return the error for a forbidden interpolation."""
        return ValueError(f"{self.where} is refused: {key[:200]}={text[:200]} is an interpolation, not a value.")
