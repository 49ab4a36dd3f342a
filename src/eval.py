"""Test a trained net: `python src/eval.py run_dir=logs/train/runs/…` or `ckpt_path=….ckpt`; nothing else is needed."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from omegaconf import DictConfig

from src.utils.cli import entry_point, guarded
from src.utils.extras import apply_extras
from src.utils.run_config import check_run_config, chosen_checkpoint, load_run_config


def evaluate(cfg: DictConfig) -> tuple[dict[str, float], dict[str, Any]]:
    """Test a checkpoint on the test set.

    Returns:
        The test's figures, and the objects it was made with.
    """
    apply_extras(cfg)
    ckpt_path = chosen_checkpoint(cfg)
    check_run_config(cfg)

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


@entry_point("eval")
def main(cfg: DictConfig) -> None:
    """Test as the command line says."""
    evaluate(cfg)


if __name__ == "__main__":
    guarded(lambda: load_run_config(sys.argv[1:], groups=("data", "trainer")))
    main()
