"""What the log file of a run tells beside warnings and errors; the terminal shows it in a way of its own."""

import logging

import lightning as L

journal = logging.getLogger("journal")  # configs/hydra/default.yaml lets it write to the file alone

COLUMNS = ("train/loss", "train/acc", "val/loss", "val/acc", "images_per_second", "epoch_seconds")


def completed_epochs(trainer: L.Trainer) -> int:
    """How many epochs have been trained."""
    return trainer.fit_loop.epoch_progress.current.completed


def epoch_line(trainer: L.Trainer) -> str | None:
    """The figures of the epoch that was completed last, counted from 1; None where there are none yet."""
    metrics = {name: float(trainer.callback_metrics[name]) for name in COLUMNS if name in trainer.callback_metrics}
    figures = "  ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.4f}" for name, value in metrics.items()
    )
    return f"epoch {completed_epochs(trainer)}/{trainer.max_epochs}  {figures}" if metrics else None
