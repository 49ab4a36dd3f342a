"""What `extras` in the configuration switches on."""

import warnings

from omegaconf import DictConfig, OmegaConf

from src.system.ranks import is_rank_zero


def apply_extras(cfg: DictConfig) -> None:
    """Act on `cfg.extras` before the run begins.

    Raises:
        ValueError: tags are enforced and there are none.
    """
    if cfg.extras.ignore_warnings:
        warnings.filterwarnings("ignore")
    if cfg.extras.enforce_tags and not cfg.tags:
        raise ValueError('tags=[] is empty, and extras.enforce_tags asks for some: tags="[baseline,mnist]".')
    if cfg.extras.print_config and is_rank_zero():
        from rich import print as rich_print
        from rich.syntax import Syntax

        # as it is written: resolved, a reference to the environment would put a secret into the log
        rich_print(Syntax(OmegaConf.to_yaml(cfg), "yaml", background_color="default"))
