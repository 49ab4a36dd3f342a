"""The `extras` of the configuration."""

import warnings

from omegaconf import DictConfig, OmegaConf

from src.system.ranks import is_rank_zero


def apply_extras(cfg: DictConfig) -> None:
    """Apply `cfg.extras` before a run; raise ValueError if required tags are missing."""
    if cfg.extras.ignore_warnings:
        warnings.filterwarnings("ignore")
    if cfg.extras.enforce_tags and not cfg.tags:
        raise ValueError('tags=[] is empty, but extras.enforce_tags requires some: tags="[baseline,mnist]".')
    if cfg.extras.print_config and is_rank_zero():
        from rich import print as rich_print
        from rich.syntax import Syntax

        # not resolved: a reference to the environment could log a secret
        rich_print(Syntax(OmegaConf.to_yaml(cfg), "yaml", background_color="default"))
