"""Reject metric names that a run will never log, before training if possible."""

from collections.abc import Collection, Mapping, Sequence

import lightning as L

from src.run.results import best_checkpoint_callback
from src.system.wording import suggest


class KnownMetrics(L.Callback):
    """Check that the metrics a configuration refers to exist.

    Lightning's sanity check reveals the validation metrics, and so those of the test, before training; the training
    metrics are known after the first epoch. Names that callbacks may add later, such as `int8/acc`, are accepted.

    Args:
        requested: metric names by the configuration key that holds them.
    """

    def __init__(self, requested: Mapping[str, Sequence[str]]) -> None:
        self.requested = requested
        self._trained_epoch = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the names of validation and test metrics.

        Raises:
            ValueError: there is no such metric; suggests the nearest.
        """
        self._check(trainer, ("val", "test"))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record that an epoch was trained; its metrics are complete only after all hooks."""
        self._trained_epoch = True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the names of training metrics after the first epoch."""
        if self._trained_epoch:
            self._check(trainer, ("train",))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the names of training metrics if there is only one epoch."""
        if self._trained_epoch:
            self._check(trainer, ("train",))

    def _check(self, trainer: L.Trainer, stages: Collection[str]) -> None:
        logged = set(trainer.callback_metrics)
        known = set(logged)
        checkpoint = best_checkpoint_callback(trainer)
        if checkpoint is not None:
            known.add(f"{checkpoint.monitor}_best")
        known |= {name.replace("val/", "test/", 1) for name in known if name.startswith("val/")}  # after training
        for key, names in self.requested.items():
            available = known if key == "optimized_metric" else logged
            for name in names:
                if is_unknown(name, available, stages):
                    raise ValueError(f"{key}={name} is not a metric of this run.{suggest(name, sorted(available))}")


def is_unknown(name: str, known: Collection[str], stages: Collection[str]) -> bool:
    """Return whether a name cannot be a metric, given that all metrics of `stages` are known."""
    stage, slash, _ = name.partition("/")
    if slash or name in known:
        return stage in stages and name not in known
    return f"val/{name}" in known or name.replace("_", "/", 1) in known  # as in acc and val_acc
