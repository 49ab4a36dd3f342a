"""Test a trained net: `python src/eval.py run_dir=logs/train/runs/…` or `ckpt_path=….ckpt`; nothing else is needed."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from src.utils.checkpoints import check_file, find_checkpoint, read_run_config
from src.utils.cli import entry_point, guarded
from src.utils.extras import apply_extras
from src.utils.targets import check_targets


def evaluate(cfg: DictConfig) -> tuple[dict[str, float], dict[str, Any]]:
    """Test a checkpoint on the test set.

    Returns:
        The test's figures, and the objects it was made with.
    """
    apply_extras(cfg)
    ckpt_path = chosen_checkpoint(cfg)
    check_targets(cfg, cfg.allowed_targets)

    from src.utils.instantiate import build  # imports torch and lightning; mistakes above are answered before
    from src.utils.results import collect_figures, report

    objects = build(cfg, ckpt_path)
    trainer = objects["trainer"]
    trainer.test(
        objects["model"],
        datamodule=objects["datamodule"],
        ckpt_path=ckpt_path,
        weights_only=True,
        verbose=False,
    )
    figures = collect_figures(trainer)
    report(cfg, objects, figures)
    return figures, objects


def chosen_checkpoint(cfg: Any) -> Path:
    """The checkpoint that `ckpt_path` or `run_dir` names.

    Raises:
        ValueError: neither is given, or both.
        FileNotFoundError: there is none.
    """
    ckpt_path, run_dir = cfg.get("ckpt_path"), cfg.get("run_dir")
    if bool(ckpt_path) == bool(run_dir):
        raise ValueError("Say what to test: either run_dir=logs/train/runs/… or ckpt_path=….ckpt")
    return check_file(ckpt_path) if ckpt_path else find_checkpoint(run_dir)


def load_run_config(arguments: list[str]) -> None:
    """Put the configuration of the run that is to be tested where `configs/eval.yaml` includes it from.

    A group that the command line chooses anew, such as data=fashion_mnist, replaces the run's.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument and not argument.startswith("-"))
    run_config: Any = {}
    if not any(flag in arguments for flag in ("--help", "-h", "--hydra-help")):
        run_config = read_run_config(chosen_checkpoint(given))
        for key in ("hydra", "defaults"):  # a file from elsewhere has no say in how Hydra itself runs
            run_config.pop(key, None)
        for group in set(given) & set(run_config):
            if group in GROUPS:
                del run_config[group]
    ConfigStore.instance().store(name="run", node=run_config)


GROUPS = ("data", "callbacks", "logger", "trainer")


@entry_point("eval")
def main(cfg: DictConfig) -> None:
    """Test as the command line says."""
    evaluate(cfg)


if __name__ == "__main__":
    guarded(lambda: load_run_config(sys.argv[1:]))
    main()
