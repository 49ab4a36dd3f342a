"""Train a net and test it: `python src/train.py model=mnist_cnn_68k data=fashion_mnist trainer.max_epochs=20`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.sweeps.ending import listen_from_the_start

if __name__ == "__main__":
    listen_from_the_start()  # before the imports, which take a while

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from src.cli.entry_point import entry_point
from src.cli.extras import apply_extras
from src.cli.output import printed_as, result_of
from src.config.objectives import check_objectives, objectives, optimized
from src.run.checkpoints import check_training_left, log_if_finished
from src.run.directory import with_folder
from src.run.rerun import expand_command_line, resume_job
from src.run.run import Run
from src.system.durations import parse_duration

if TYPE_CHECKING:  # its import takes seconds
    from torch import Tensor


def train(cfg: DictConfig) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Train if `cfg.train` is set, then test the best checkpoint if `cfg.test` is set.

    Args:
        cfg: the configuration.

    Returns:
        The run's metrics as scalar tensors, and its objects.
    """
    cfg = with_folder(cfg)
    apply_extras(cfg)
    seconds = parse_duration(cfg.budget, "budget") if cfg.budget is not None and not cfg.trainer.fast_dev_run else None
    ckpt_path = Run.open(cfg.ckpt_path, "ckpt_path").best_checkpoint() if cfg.ckpt_path else None
    if cfg.init_from and ckpt_path and not cfg.resume:
        raise ValueError("ckpt_path= continues a run and init_from= starts one from weights: give one of them.")
    if cfg.lr_find and ckpt_path:
        raise ValueError("lr_find=true tests a run from its first step: leave out resume= and ckpt_path=.")
    if cfg.lr_find and (names := objectives(cfg)):
        raise ValueError(f"lr_find=true trains nothing, so there is no optimized_metric={','.join(names)}.")
    init_from = Run.open(cfg.init_from, "init_from").best_checkpoint() if cfg.init_from and not ckpt_path else None
    teacher = Run.open(cfg.teacher, "teacher") if cfg.teacher and cfg.train else None

    from src.callbacks.last_checkpoint import restored_metrics
    from src.run.init_from import load_matching_weights
    from src.run.instantiate import build  # imports torch and lightning; mistakes above are reported before
    from src.run.published_weights import load_weights, weights_file
    from src.run.results import as_tensors, best_checkpoint, collect_metrics, report
    from src.sweeps.job_callback import callbacks_of_job

    if cfg.lr_find:
        cfg.logger, cfg.model.scheduler = None, None  # nothing is logged, and the range test sets the rates
    weights = None if ckpt_path else weights_file(cfg.model.get("net"))  # a checkpoint has all weights
    if weights and init_from:
        raise ValueError("init_from= and model.net.weights= both give the first weights: give one of them.")
    own_callbacks = callbacks_of_job(cfg.paths.output_dir)
    if seconds is not None:
        from src.speed.budget import Budget, recorded_plans

        own_callbacks.append(Budget(seconds, recorded_plans(cfg.reproduce, seconds) if cfg.reproduce else ()))
    objects = build(cfg, ckpt_path, own_callbacks)
    datamodule, model, trainer = objects["datamodule"], objects["model"], objects["trainer"]
    metrics: dict[str, float] = {}
    if init_from is not None:
        load_matching_weights(model, init_from)
    if weights is not None:
        load_weights(model.net, weights)
    if teacher is not None:
        from src.run.teacher import add_teacher

        add_teacher(teacher, cfg, model, objects["record"])
    if cfg.lr_find:
        from src.speed.lr_finder import find_learning_rate

        find_learning_rate(cfg, objects)
        return {}, objects
    if cfg.train:
        limits = (trainer.max_epochs, trainer.max_steps) if seconds is None else (None, -1)
        if ckpt_path and ckpt_path.resolve().parent.parent != Path(cfg.paths.output_dir).resolve():
            check_training_left(ckpt_path, *limits)
        elif ckpt_path and trainer.is_global_zero:  # this run's own checkpoint may have reached them
            log_if_finished(ckpt_path, *limits)
        trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
        metrics |= restored_metrics(trainer) | collect_metrics(trainer)
        ckpt_path = best_checkpoint(trainer)
    if cfg.test:
        trainer.test(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True, verbose=False)
        metrics |= collect_metrics(trainer)
    report(cfg, objects, metrics)
    return as_tensors(metrics), objects


@entry_point("train", prepare=expand_command_line)
def main(cfg: DictConfig) -> float | list[float] | None:
    """Train as the command line says, and return the metric that a sweep optimises, or several."""
    hydra = HydraConfig.get()
    if (search := hydra.runtime.choices["hparams_search"]) and hydra.mode == RunMode.RUN and not cfg.reproduce:
        raise ValueError(f"hparams_search={search} is a sweep: python src/train.py -m hparams_search={search} …")
    check_objectives(cfg)
    resume_job(cfg, Path(cfg.paths.output_dir))
    with printed_as(cfg.format) as result:
        metrics, objects = train(cfg)
        result |= result_of(metrics, objects)
        return optimized(cfg, metrics)


if __name__ == "__main__":
    main()
