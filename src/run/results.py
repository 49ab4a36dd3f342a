"""Report the metrics of a run: in `metrics.json`, in the HParams tab, and as a table at the end."""

import shlex
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from src.config.stored_config import UNKNOWN
from src.models.counting import count_macs, count_parameters
from src.models.example_inputs import moved_to
from src.run.checkpoints import read_checkpoint
from src.run.differences import flatten
from src.run.file_names import METRICS
from src.run.journal import journal, score_names, summary_names
from src.run.record import RunRecord

SUMMARY = ("params", "epoch_seconds", "images_per_second")

# hyperparameters by which the HParams tab and other loggers compare runs
COMPARED_KEYS = ("seed", "data.batch_size", "trainer.max_epochs", "model.optimizer", "model.scheduler", "model.net")


def collect_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return the metrics of the stage that just ended, plus the best value of the monitored metric and its epoch."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    checkpoint = best_checkpoint_callback(trainer)
    if checkpoint is not None and checkpoint.best_model_score is not None:
        metrics[f"{checkpoint.monitor}_best"] = float(checkpoint.best_model_score)
        if trainer.state.fn == TrainerFn.FITTING:
            # Lightning counts epochs from 0, also in file names; metrics and log lines count from 1
            metrics["best_epoch"] = read_checkpoint(Path(checkpoint.best_model_path))["epoch"] + 1
    return metrics


def as_tensors(metrics: dict[str, float]) -> dict[str, Tensor]:
    """Return the metrics as scalar tensors, as Lightning does."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()}


def best_checkpoint(trainer: L.Trainer) -> Path | None:
    """Return the best checkpoint of the training that just ended; None if it kept none."""
    checkpoint = best_checkpoint_callback(trainer)
    return Path(checkpoint.best_model_path) if checkpoint is not None and checkpoint.best_model_path else None


def best_checkpoint_callback(trainer: L.Trainer) -> ModelCheckpoint | None:
    """Return the first ModelCheckpoint that monitors a metric."""
    callbacks = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint))
    return next((callback for callback in callbacks if callback.monitor), None)


def report(cfg: DictConfig, objects: dict[str, Any], metrics: dict[str, float]) -> None:
    """Add size and speed to a run's metrics, write them to its folder and loggers, and print them."""
    record: RunRecord = objects["record"]
    model, trainer = objects["model"], objects["trainer"]
    metrics["params"] = count_parameters(model)
    metrics |= record.timing_metrics()
    if not trainer.is_global_zero:
        return
    metrics["macs"] = count_macs(model.net, moved_to(model.net, model.example_input_array[:1]))
    record.write(METRICS, metrics)
    compared = {**record.choices, **hyperparameters(record.config)}
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(compared)
        elif record.epoch_seconds:  # the HParams tab compares training runs, not tests alone
            from src.run.hparams import log_hyperparameters  # its imports must not delay the first step

            log_hyperparameters(logger, compared, metrics, score_names(model), trainer.global_step)
        logger.finalize("success")
    best = best_line(trainer, metrics)
    tested = [f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("test/")]
    for line in (best, f"test: {'  '.join(tested)}" if tested else None):
        if line is not None:
            journal.info("%s", line)
    print_summary(cfg, metrics, best, summary_names(model))


def best_line(trainer: L.Trainer, metrics: dict[str, float]) -> str | None:
    """Describe the best epoch and its checkpoint; None if none was trained."""
    checkpoint = best_checkpoint_callback(trainer)
    if checkpoint is None or "best_epoch" not in metrics:
        return None
    score, name = metrics[f"{checkpoint.monitor}_best"], Path(checkpoint.best_model_path).name
    return f"best: epoch {metrics['best_epoch']:.0f}  {checkpoint.monitor} {score:.4f}  checkpoints/{name}"


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters that runs are compared by, such as `model.optimizer.lr`.

    Args:
        config: the stored configuration; values that came from the environment are left out.
    """
    values = {}
    for name, value in flatten(config).items():
        special = any(part.startswith("_") for part in name.split("."))  # a key of Hydra
        if any(f"{name}.".startswith(f"{key}.") for key in COMPARED_KEYS) and not special and value != UNKNOWN:
            values[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return values


def print_summary(cfg: DictConfig, metrics: dict[str, float], best: str | None, names: list[str]) -> None:
    """Print the main metrics, the best checkpoint, the run directory, and what to try next."""
    table = Table(show_header=False)
    with_views = [name for name in metrics if name.endswith("_tta")]  # test-time augmentation
    for name in (*(f"{stage}/{name}" for stage in ("test", "val") for name in names), *with_views):
        if name in metrics:
            table.add_row(name, f"{metrics[name]:.4f}")
    for name in SUMMARY:
        if name in metrics:
            table.add_row(name, f"{metrics[name]:,.2f}".removesuffix(".00"))
    console = Console()
    console.print(table)
    if best is not None:
        console.print(best, markup=False, highlight=False, soft_wrap=True)
    console.print(f"run directory: {cfg.paths.output_dir}", markup=False, highlight=False, soft_wrap=True)
    if cfg.extras.next_commands:
        console.print("worth trying next:")
        folder = str(cfg.paths.output_dir)
        for command in cfg.extras.next_commands:
            pasted = command.replace(folder, shlex.quote(folder))
            console.print(f"  {pasted}", highlight=False, soft_wrap=True, markup=False)
