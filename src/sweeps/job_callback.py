"""Report the progress of a sweep's job, and stop it when the study prunes it."""

from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig

from src.run.file_names import JOB
from src.run.interruption import Pruned
from src.run.journal import score_names
from src.run.status import update_status
from src.system.json_files import read_json


class SweepJob(L.Callback):
    """Update the job's status after each epoch, and prune the run if the study says so.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.trial: Any = None
        # whether an epoch has ended since the last report, and has been validated
        self._unreported = self._validated = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the trial of this run if the study has a pruner."""
        study = read_json(self.folder / JOB).get("study", {})
        self.prune_by = study.get("prune_by")
        if self.prune_by and trainer.is_global_zero and HydraConfig.initialized():
            sweeper = HydraConfig.get().sweeper  # from the command line, because files must not choose what is built
            if sweeper.get("pruner"):
                from src.sweeps.study import open_study, trial_of

                opened = open_study(sweeper.storage, sweeper.study_name, pruner=sweeper.pruner)
                self.trial = trial_of(opened, study["trial"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the first epoch and the number of epochs."""
        update_status(self.folder, epoch=trainer.current_epoch, max_epochs=trainer.max_epochs)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that the validation metrics are complete."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the metrics of the previous epoch, which are complete only now."""
        self._report(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the metrics of the last epoch."""
        self._report(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Update the status, report to the study, and stop a run that it prunes.

        Raises:
            Pruned: the study prunes this trial.
            ValueError: the run has no metric `prune_by`.
        """
        epoch = trainer.current_epoch + 1
        update_status(self.folder, epoch=epoch, max_epochs=trainer.max_epochs)  # a time budget changes its end
        self._unreported = True
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not self.prune_by or not trainer.fit_loop.epoch_loop._should_check_val_epoch():
            return
        if self.prune_by not in metrics:
            names = ", ".join(sorted(metrics))
            raise ValueError(f"hydra.sweeper.prune_by={self.prune_by} is not a metric of this run; it has {names}.")
        value = metrics[self.prune_by]
        should_prune = False
        if self.trial is not None:
            self.trial.report(value, epoch)
            # pruning a run that has finished training would save nothing
            should_prune = epoch != trainer.max_epochs and self.trial.should_prune()
        if trainer.strategy.reduce_boolean_decision(should_prune, all=False):  # all processes end together
            validated = {
                name: metrics[name] for name in reported_metrics(trainer) if name.startswith("val/") and name in metrics
            }
            update_status(self.folder, figures=validated)  # train/loss is still the previous epoch's
            raise Pruned(value)

    def _report(self, trainer: L.Trainer) -> None:
        """Report the metrics of an epoch that has been validated, or needs no validation."""
        if self._unreported and (self._validated or not trainer.enable_validation):
            metrics = trainer.callback_metrics
            update_status(
                self.folder,
                figures={name: float(metrics[name]) for name in reported_metrics(trainer) if name in metrics},
            )
        self._unreported = self._validated = False


def reported_metrics(trainer: L.Trainer) -> list[str]:
    """Return the names of the metrics that a job reports after each epoch."""
    return ["train/loss", "val/loss", *(f"val/{score}" for score in score_names(trainer.lightning_module))]


def callbacks_of_job(folder: str) -> list[L.Callback]:
    """Return the callback for a sweep's job; an empty list for any other run."""
    return [SweepJob(folder)] if (Path(folder) / JOB).is_file() else []
