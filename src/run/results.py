"""What comes out of a run: its figures in `metrics.json`, in the HParams tab, and as a table at the end."""

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
from src.run.checkpoints import read_checkpoint
from src.run.differences import flat
from src.run.file_names import METRICS
from src.run.journal import journal, score_of
from src.run.record import RunRecord

SUMMARY = ("params", "epoch_seconds", "images_per_second")

# what runs are compared by, in the HParams tab and its like
COMPARED = ("seed", "data.batch_size", "trainer.max_epochs", "model.optimizer", "model.scheduler", "model.net")


def collect_metrics(trainer: L.Trainer) -> dict[str, float]:
    """The metrics of the stage that has just ended, plus the best value of the monitored metric and its epoch."""
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    checkpoint = best_checkpoint_callback(trainer)
    if checkpoint is not None and checkpoint.best_model_score is not None:
        figures[f"{checkpoint.monitor}_best"] = float(checkpoint.best_model_score)
        if trainer.state.fn == TrainerFn.FITTING:
            # Lightning counts epochs from 0, also in the names of files; figures and lines count them from 1
            figures["best_epoch"] = read_checkpoint(Path(checkpoint.best_model_path))["epoch"] + 1
    return figures


def as_tensors(figures: dict[str, float]) -> dict[str, Tensor]:
    """The figures as tensors without dimensions, as Lightning's are: for `.item()` as well as for sums."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}


def best_checkpoint(trainer: L.Trainer) -> Path | None:
    """The best checkpoint of a training that has just ended; None where it kept none."""
    checkpoint = best_checkpoint_callback(trainer)
    return Path(checkpoint.best_model_path) if checkpoint is not None and checkpoint.best_model_path else None


def best_checkpoint_callback(trainer: L.Trainer) -> ModelCheckpoint | None:
    """The callback that keeps the best checkpoint, by what it monitors."""
    found = (one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint) and one.monitor)
    return next(found, None)


def report(cfg: DictConfig, objects: dict[str, Any], figures: dict[str, float]) -> None:
    """Complete a run's figures with its size and speed, write them down and print them."""
    record: RunRecord = objects["record"]
    model, trainer = objects["model"], objects["trainer"]
    figures["params"] = count_parameters(model)
    figures |= record.timing_metrics()
    if not trainer.is_global_zero:
        return
    image = model.example_input_array[:1].to(next(model.parameters()))  # of the device and kind of the weights
    figures["macs"] = count_macs(model.net, image)
    record.write(METRICS, figures)
    compared = {**record.choices, **hyperparameters(record.config)}
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(compared)
        elif record.epoch_seconds:  # the HParams tab compares trainings; a test by itself belongs to one of them
            from src.run.hparams import log_hyperparameters  # what it imports need not delay the first step

            log_hyperparameters(logger, compared, figures, score_of(model), trainer.global_step)
        logger.finalize("success")
    best = best_line(trainer, figures)
    tested = [f"{name} {value:.4f}" for name, value in figures.items() if name.startswith("test/")]
    for line in (best, f"test: {'  '.join(tested)}" if tested else None):
        if line is not None:
            journal.info("%s", line)
    print_summary(cfg, figures, best, score_of(model))


def best_line(trainer: L.Trainer, figures: dict[str, float]) -> str | None:
    """The best epoch and its checkpoint; None where none has been trained."""
    checkpoint = best_checkpoint_callback(trainer)
    if checkpoint is None or "best_epoch" not in figures:
        return None
    score, name = figures[f"{checkpoint.monitor}_best"], Path(checkpoint.best_model_path).name
    return f"best: epoch {figures['best_epoch']:.0f}  {checkpoint.monitor} {score:.4f}  checkpoints/{name}"


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """The values that a run may be compared by, under dotted names: `model.optimizer.lr` and its like.

    Args:
        config: as it is stored, so that what comes from the environment is unknown; that is left out.
    """
    found = {}
    for name, value in flat(config).items():
        own = any(part.startswith("_") for part in name.split("."))  # Hydra's
        if any(f"{name}.".startswith(f"{key}.") for key in COMPARED) and not own and value != UNKNOWN:
            found[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def print_summary(cfg: DictConfig, figures: dict[str, float], best: str | None, scores: list[str]) -> None:
    """Print the main figures, the best checkpoint, the run directory, and what to try next."""
    table = Table(show_header=False)
    for name in (f"{stage}/{score}" for stage in ("test", "val") for score in scores):
        if name in figures:
            table.add_row(name, f"{figures[name]:.4f}")
    for name in SUMMARY:
        if name in figures:
            table.add_row(name, f"{figures[name]:,.2f}".removesuffix(".00"))
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
