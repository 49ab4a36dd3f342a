"""The checkpoint that a run can be resumed from, as if it had never been interrupted."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import nn
from torchmetrics import Metric

from src.data.protocols import KeepsPosition
from src.run.checkpoint_tensors import tensor_mismatch
from src.run.checkpoints import RESUME_KEY
from src.run.file_names import LAST
from src.run.interruption import Interrupted, Pruned
from src.run.random_state import random_state, set_random_state
from src.system.signals import listener

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class LastCheckpoint(Checkpoint):
    """Write `last.ckpt` after every epoch, optionally more often, and when a signal ends the run.

    Every checkpoint of the run also holds what Lightning leaves out: random state, running metrics of the epoch, and
    whether the run was about to stop. On SIGTERM or SIGINT the batch is finished, `last.ckpt` written, and
    the run ends with `Interrupted`; a second signal ends it at once.

    Args:
        dirpath: folder of the checkpoints.
        every_n_train_steps: also save after this many optimizer steps.
        every_n_minutes: also save when the last checkpoint is older than this.
    """

    def __init__(
        self, dirpath: str, every_n_train_steps: int | None = None, every_n_minutes: float | None = None
    ) -> None:
        for name, value in {"every_n_train_steps": every_n_train_steps, "every_n_minutes": every_n_minutes}.items():
            if value is not None and value <= 0:
                raise ValueError(f"last_checkpoint.{name}={value} must be more than 0.")
        self.path = Path(dirpath) / LAST
        self.every_n_train_steps, self.every_n_minutes = every_n_train_steps, every_n_minutes
        self._signal: int | None = None
        self._ending = False
        self.figures: dict[str, float] = {}  # of the checkpoint that was loaded
        self._logged = (0, 0)  # how often, and up to which step, before the checkpoint was written
        self._former: dict[int, Any] = {}  # handlers
        self._handlers: dict[int, Any] = {}  # those to restore, while this callback listens
        self._restored: dict[str, Any] | None = None
        self._saved_step, self._saved_at = 0, time.monotonic()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remember the signal handlers before Lightning replaces them."""
        self._former = {number: signal.getsignal(number) for number in SIGNALS}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state that Lightning leaves out."""
        own = {
            "random": random_state(),
            "metrics": metric_states(pl_module),
            "loader": loader.state_dict() if (loader := resumable_loader(trainer)) else None,
        }
        checkpoint[RESUME_KEY] = {
            "processes": gather(own, trainer.world_size),
            # those that were not logged since the run was resumed come with its checkpoint
            "figures": self.figures | {name: float(value) for name, value in trainer.callback_metrics.items()},
            "should_stop": trainer.should_stop,
            "log_every_n_steps": logging_interval(trainer),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the state until training starts, since setting up draws random numbers."""
        self._restored = checkpoint.get(RESUME_KEY)
        self.figures = self._restored["figures"] if self._restored else {}
        if self._restored:
            every = self._restored.get("log_every_n_steps", logging_interval(trainer))  # former versions lack it
            self._logged = every, checkpoint["global_step"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the state of the checkpoint and install the signal handlers."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if self._restored is not None:
            processes = self._restored["processes"]
            own = processes[trainer.global_rank % len(processes)]
            set_metric_states(pl_module, own["metrics"])
            trainer.should_stop = self._restored["should_stop"]
            if own["loader"] is not None and (loader := resumable_loader(trainer)):
                loader.load_state_dict(own["loader"])
            set_random_state(own["random"])
            self._restored = None
        if threading.current_thread() is threading.main_thread():
            listener.trains = True
            for number in SIGNALS:
                signal.signal(number, self._record_signal)
            self._handlers = self._former

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save mid-epoch when a save is due; after the last batch, the end of the epoch does it."""
        if trainer.is_last_batch or trainer.fit_loop._should_accumulate():
            return
        signalled = self._signalled(trainer)
        if signalled or self._is_time(trainer):
            self._save(trainer)
        self._ending = signalled

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End an interrupted run, now that the metrics of its last step have been logged."""
        if self._ending:
            raise Interrupted(self._signal, trainer.default_root_dir)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after the epoch, when all metrics are logged and every other callback has seen them."""
        self._drop_superseded(trainer)
        self._save(trainer)
        if self._signalled(trainer):
            raise Interrupted(self._signal, trainer.default_root_dir)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the signal handlers, and end the run if a signal has arrived since the last epoch."""
        self._stop_listening()
        if self._signalled(trainer):
            raise Interrupted(self._signal, trainer.default_root_dir)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers; if a pruned run has received a signal, raise it again for the sweep."""
        self._stop_listening()
        if self._signal is not None and isinstance(exception, Pruned):
            signal.raise_signal(self._signal)

    def _drop_superseded(self, trainer: L.Trainer) -> None:
        """Drop the restored per-step metrics once the old logging interval would have replaced them.

        Per-epoch metrics have been logged again by now, except for validation, which may run less often.
        """
        every, step = self._logged
        if every and every != logging_interval(trainer) and trainer.global_step // every > step // every:
            self.figures = {name: value for name, value in self.figures.items() if name.startswith("val/")}

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _is_time(self, trainer: L.Trainer) -> bool:
        steps, minutes = trainer.global_step - self._saved_step, (time.monotonic() - self._saved_at) / 60
        due = bool(self.every_n_train_steps and steps >= self.every_n_train_steps)
        due |= bool(self.every_n_minutes and minutes >= self.every_n_minutes)
        return self._any_process(trainer, due) if self.every_n_minutes else due

    def _signalled(self, trainer: L.Trainer) -> bool:
        return self._any_process(trainer, self._signal is not None)

    def _any_process(self, trainer: L.Trainer, decision: bool) -> bool:
        """Agree across processes: true if the decision is true on any of them."""
        return trainer.strategy.reduce_boolean_decision(decision, all=False) if trainer.world_size > 1 else decision

    def _record_signal(self, number: int, frame: Any) -> None:
        self._signal = number
        self._restore_handlers()  # the next one ends the run at once

    def _stop_listening(self) -> None:
        self._restore_handlers()
        listener.trains = self._signal is not None  # the run ends in order, and not by the listener

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def restored_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return the metrics restored from the checkpoint; further training replaces them."""
    return next((one.figures for one in trainer.checkpoint_callbacks if isinstance(one, LastCheckpoint)), {})


def logging_interval(trainer: Any) -> int:
    """Return the number of steps between logged ones, 0 for none; Lightning sets it out of mypy's sight."""
    return trainer.log_every_n_steps


def gather(own: dict[str, Any], world_size: int) -> list[dict[str, Any]]:
    """Gather the state of each process, in the order of ranks."""
    if world_size == 1:
        return [own]
    everyone: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(everyone, own)
    return everyone


def resumable_loader(trainer: L.Trainer) -> KeepsPosition | None:
    """The training data loader if it can save and restore its position, else None."""
    loader = trainer.train_dataloader
    return loader if isinstance(loader, KeepsPosition) else None


def metric_states(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the state of every metric within a module."""
    return {
        name: {"updates": metric._update_count} | {key: getattr(metric, key) for key in metric._defaults}
        for name, metric in module.named_modules()
        if isinstance(metric, Metric)
    }


def set_metric_states(module: nn.Module, states: dict[str, dict[str, Any]]) -> None:
    """Restore the states that `metric_states` returned.

    Validation states in checkpoints of older versions differ and are skipped, which loses nothing.
    """
    for name, state in states.items():
        metric = module.get_submodule(name)
        assert isinstance(metric, Metric)
        if state.keys() != {"updates", *metric._defaults}:
            continue
        for key, default in metric._defaults.items():  # those of figures that are lists are any
            if isinstance(default, torch.Tensor) and (
                fault := tensor_mismatch(state[key], default.shape, default.dtype)
            ):
                raise ValueError(f"The checkpoint's running figures are damaged: {name}.{key} {fault}.")
        metric._update_count = state["updates"]
        for key in metric._defaults:
            value = state[key]
            setattr(metric, key, value.to(metric.device) if isinstance(value, torch.Tensor) else value)
