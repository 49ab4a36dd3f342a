"""Reject metric names that a run will never log, before training if possible."""

from collections.abc import Collection, Mapping, Sequence

import lightning as L

from src.run.results import best_checkpoint_callback
from src.system.wording import suggest


class KnownMetrics(L.Callback):
    """Check the figures that a configuration names against those that there are.

    Lightning's sanity check shows those of a validation, and so those of a test, before training; those of training are
    known after the first epoch. Names that callbacks may add later, such as `int8/acc`, are accepted.

    Args:
        asked_for: names of figures under the key of the configuration that holds them.
    """

    def __init__(self, asked_for: Mapping[str, Sequence[str]]) -> None:
        self.asked_for = asked_for
        self._trained_epoch = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the names of validation and test figures.

        Raises:
            ValueError: there is no such figure; names the nearest.
        """
        self._check(trainer, ("val", "test"))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that an epoch has been trained, whose figures are in only when all hooks have been called."""
        self._trained_epoch = True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the names of training figures after the first epoch."""
        if self._trained_epoch:
            self._check(trainer, ("train",))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check them where there is one epoch alone."""
        if self._trained_epoch:
            self._check(trainer, ("train",))

    def _check(self, trainer: L.Trainer, stages: Collection[str]) -> None:
        monitored = set(trainer.callback_metrics)
        best = [f"{checkpoint.monitor}_best"] if (checkpoint := best_checkpoint_callback(trainer)) is not None else []
        known = {*monitored, *best}
        known |= {name.replace("val/", "test/", 1) for name in known if name.startswith("val/")}  # when it has ended
        for key, names in self.asked_for.items():
            there = known if key == "optimized_metric" else monitored
            for name in names:
                if is_lacking(name, there, stages):
                    raise ValueError(f"{key}={name} is not a metric of this run.{suggest(name, sorted(there))}")


def is_lacking(name: str, known: Collection[str], stages: Collection[str]) -> bool:
    """Whether a name cannot be a metric, given that all metrics of `stages` are known."""
    stage, slash, _ = name.partition("/")
    if slash or name in known:
        return stage in stages and name not in known
    return f"val/{name}" in known or name.replace("_", "/", 1) in known  # as in acc and val_acc
