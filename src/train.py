"""Train a net and test it: `python src/train.py model=mnist_cnn_68k data=fashion_mnist trainer.max_epochs=20`."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.sweeps.signals import listen_from_the_start

if __name__ == "__main__":
    listen_from_the_start()  # before the imports, which take a while

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from src.utils.checkpoints import check_file
from src.utils.cli import entry_point, guarded
from src.utils.extras import apply_extras
from src.utils.rerun import expand_command_line, go_on
from src.utils.targets import check_targets


def train(cfg: DictConfig, own: bool = False) -> tuple[dict[str, float], dict[str, Any]]:
    """Train, then test the best checkpoint, as far as `cfg.train` and `cfg.test` say so.

    Args:
        cfg: the configuration.
        own: the configuration is the user's own, although the run goes on with one that was recorded.

    Returns:
        The run's figures, and the objects it was made of.
    """
    apply_extras(cfg)
    ckpt_path = check_file(cfg.ckpt_path) if cfg.ckpt_path else None
    if (cfg.resume or cfg.reproduce) and not own:
        check_targets(cfg, cfg.allowed_targets)

    from src.callbacks.last_checkpoint import restored_figures
    from src.utils.instantiate import build  # imports torch and lightning; mistakes above are answered before
    from src.utils.results import best_checkpoint, collect_figures, report

    objects = build(cfg, ckpt_path)
    datamodule, model, trainer = objects["datamodule"], objects["model"], objects["trainer"]
    figures: dict[str, float] = {}
    if cfg.train:
        trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
        figures |= restored_figures(trainer) | collect_figures(trainer)
        ckpt_path = best_checkpoint(trainer)
    if cfg.test:
        trainer.test(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True, verbose=False)
        figures |= collect_figures(trainer)
    report(cfg, objects, figures)
    return figures, objects


@entry_point("train")
def main(cfg: DictConfig) -> float | list[float] | None:
    """Train as the command line says, and return the figure that a sweep optimises, or several."""
    hydra = HydraConfig.get()
    if (search := hydra.runtime.choices["hparams_search"]) and hydra.mode == RunMode.RUN and not cfg.reproduce:
        raise ValueError(f"hparams_search={search} is a sweep: python src/train.py -m hparams_search={search} …")
    figures, _ = train(cfg, own=go_on(cfg, Path(cfg.paths.output_dir)))
    names = cfg.optimized_metric
    if not names:
        return None
    values = [optimized(figures, name) for name in ([names] if isinstance(names, str) else names)]
    return values[0] if isinstance(names, str) else values


def optimized(figures: dict[str, float], name: str) -> float:
    """The figure that a sweep optimises.

    Raises:
        ValueError: the run has no such figure.
    """
    if name not in figures:
        raise ValueError(f"optimized_metric={name} is not a figure of this run; they are {', '.join(sorted(figures))}.")
    return figures[name]


if __name__ == "__main__":
    guarded(expand_command_line)
    main()
