"""What a run that is a job of a sweep does beside training: it tells how far it is, and ends when it is of no use."""

from pathlib import Path
from typing import Any

import lightning as L

from src.utils.interruption import Pruned
from src.utils.job_status import JOB, note
from src.utils.json_files import read_json

TOLD = ("train/loss", "val/loss", "val/acc")


class SweepJob(L.Callback):
    """Write to the job's status after each epoch, and ask the study, where there is one, whether to go on.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.trial: Any = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the trial that this run is, where a study may prune it."""
        study = read_json(self.folder / JOB).get("study")
        if study and study["prune_by"]:
            from src.sweeps.study import open_study, trial_of

            self.prune_by = study["prune_by"]
            self.trial = trial_of(open_study(study["storage"]), study["trial"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell how long it will be."""
        note(self.folder, epoch=trainer.current_epoch, max_epochs=trainer.max_epochs)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell how the epoch ended, and end the run that the study gives up.

        Raises:
            Pruned: the study does not want the rest.
            ValueError: the run has no such figure.
        """
        epoch = trainer.current_epoch + 1
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        note(self.folder, epoch=epoch, figures={name: metrics[name] for name in TOLD if name in metrics})
        if self.trial is None or trainer.fit_loop.epoch_loop._should_check_val_epoch() is False:
            return
        if self.prune_by not in metrics:
            names = ", ".join(sorted(metrics))
            raise ValueError(f"hydra.sweeper.prune_by={self.prune_by} is not a figure of this run; they are {names}.")
        value = metrics[self.prune_by]
        self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise Pruned(value)
