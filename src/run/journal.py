"""Progress lines for a run's log file; the terminal shows the same information in its own form."""

import logging

import lightning as L

from src.models.task import Task

journal = logging.getLogger("journal")  # configs/hydra/default.yaml lets it write to the file alone


def completed_epochs(trainer: L.Trainer) -> int:
    """How many epochs have been trained."""
    return trainer.fit_loop.epoch_progress.current.completed


def epoch_line(trainer: L.Trainer) -> str | None:
    """The metrics of the epoch that was completed last, counted from 1; None where there are none yet."""
    columns = [
        f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", *score_of(trainer.lightning_module))
    ]
    columns += ["images_per_second", "epoch_seconds"]
    metrics = {name: float(trainer.callback_metrics[name]) for name in columns if name in trainer.callback_metrics}
    figures = "  ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.4f}" for name, value in metrics.items()
    )
    return f"epoch {completed_epochs(trainer)}/{trainer.max_epochs}  {figures}" if metrics else None


def score_of(model: L.LightningModule) -> list[str]:
    """The metric that says how good a model is, where the model is a task of this project and names it."""
    return [model.score] if isinstance(model, Task) else []
