"""Progress lines for a run's log file; the terminal has its own display."""

import logging

import lightning as L

from src.models.task import Task

journal = logging.getLogger("journal")  # configs/hydra/default.yaml sends it to the file only


def completed_epochs(trainer: L.Trainer) -> int:
    """Return the number of epochs trained."""
    return trainer.fit_loop.epoch_progress.current.completed


def epoch_line(trainer: L.Trainer) -> str | None:
    """Format the metrics of the last completed epoch, counted from 1; None if there are none yet."""
    names = "loss", *score_names(trainer.lightning_module)
    # without validation in this epoch, the metrics of an earlier one are still there
    every = trainer.check_val_every_n_epoch
    stages = ("train", "val") if every is None or completed_epochs(trainer) % every == 0 else ("train",)
    columns = [f"{stage}/{name}" for stage in stages for name in names]
    columns += ["images_per_second", "epoch_seconds"]
    metrics = {name: float(trainer.callback_metrics[name]) for name in columns if name in trainer.callback_metrics}
    formatted = "  ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.4f}" for name, value in metrics.items()
    )
    return f"epoch {completed_epochs(trainer)}/{trainer.max_epochs}  {formatted}" if metrics else None


def summary_names(model: L.LightningModule) -> list[str]:
    """Return the names of a model's score and, if its task names one, of the metric to compare it with."""
    baseline = [model.baseline] if isinstance(model, Task) and model.baseline else []
    return score_names(model) + baseline


def score_names(model: L.LightningModule) -> list[str]:
    """Return the name of a model's score in a list, which is empty if the model is not a `Task`."""
    return [model.score] if isinstance(model, Task) else []
