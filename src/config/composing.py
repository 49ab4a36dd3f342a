"""Parse overrides and compose configurations as Hydra does, before or during its own run."""

import math
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from src.config.paths import CONFIGS, ROOT
from src.data.class_folders import count_classes

OmegaConf.register_new_resolver("project_root", lambda: str(ROOT), replace=True)
OmegaConf.register_new_resolver("count_classes", count_classes, replace=True)
OmegaConf.register_new_resolver("length", len, replace=True)
OmegaConf.register_new_resolver("product", lambda *factors: math.prod(factors), replace=True)


def parse(overrides: list[str]) -> list[Override]:
    """Parse overrides as Hydra does, skipping its options and their values."""
    return OverridesParser.create().parse_overrides([text for text in overrides if is_override(text)])


def is_override(word: str) -> bool:
    """Return whether a word of a command line is an override, not an option of Hydra or its value."""
    return not word.startswith("-") and (word.startswith("~") or "=" in word)


def values(override: Override) -> list[Any]:
    """Return the value of an override, or all values of a sweep such as lr=0.1,0.01 or model=glob(mnist_*)."""
    value = override.value()
    if isinstance(value, Glob):
        group = CONFIGS / override.key_or_group.partition("@")[0]
        options = value.filter(sorted(path.stem for path in group.glob("*.yaml")))
        if not options:
            raise ValueError(f"{override.input_line} matches no file in configs/{group.relative_to(CONFIGS)}.")
        return options
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def is_choice(override: Override) -> bool:
    """Return whether an override selects an option of a config group, such as model=mnist_cnn_68k."""
    return (CONFIGS / override.key_or_group.partition("@")[0]).is_dir()


def compose(config_name: str, overrides: list[Override], with_hydra: bool = False) -> DictConfig:
    """Compose a configuration with overrides, using the first value of a sweep.

    Hydra's own node is included only with `with_hydra`, or during a run of Hydra.
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


def compose_choices(config_name: str, overrides: list[Override]) -> DictConfig:
    """Compose a configuration, with Hydra's own node, from the overrides that select an option of a group."""
    return compose(config_name, [override for override in overrides if is_choice(override)], with_hydra=True)
