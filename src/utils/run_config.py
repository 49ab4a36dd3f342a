"""The configuration of a run that is used again: what `src/eval.py`, `src/export.py` and `src/predict.py` share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from src.utils.checkpoints import check_file, find_checkpoint, read_run_config


def chosen_checkpoint(cfg: Any) -> Path:
    """The checkpoint that `ckpt_path` or `run_dir` names.

    Raises:
        ValueError: neither is given, or both.
        FileNotFoundError: there is none.
    """
    ckpt_path, run_dir = cfg.get("ckpt_path"), cfg.get("run_dir")
    if bool(ckpt_path) == bool(run_dir):
        raise ValueError("Say which run is meant: either run_dir=logs/train/runs/… or ckpt_path=….ckpt")
    return check_file(ckpt_path) if ckpt_path else find_checkpoint(run_dir)


def load_run_config(arguments: list[str], groups: Sequence[str]) -> None:
    """Put the configuration of the run that is meant where a primary config includes it from, as `run`.

    Args:
        arguments: of the command line. Without a run, for help or where none is needed, the node is empty.
        groups: that the command line may choose anew: data=fashion_mnist then replaces the run's.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument and not argument.startswith("-"))
    run_config: Any = {}
    if not any(flag in arguments for flag in ("--help", "-h", "--hydra-help")) and given.get("exported", "null") in (
        "null",
        "",
    ):
        run_config = read_run_config(chosen_checkpoint(given))
        for key in ("hydra", "defaults"):  # a file from elsewhere has no say in how Hydra itself runs
            run_config.pop(key, None)
        for group in set(given) & set(run_config) & set(groups):
            del run_config[group]
    ConfigStore.instance().store(name="run", node=run_config)
