"""Write the checkpoint from which a run resumes as if it had never been interrupted."""

import logging
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

log = logging.getLogger(__name__)

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
                raise ValueError(f"last_checkpoint.{name}={value} must be above 0.")
        self.path = Path(dirpath) / LAST
        self.every_n_train_steps, self.every_n_minutes = every_n_train_steps, every_n_minutes
        self._signal: int | None = None
        self._ending = False
        self.metrics: dict[str, float] = {}  # of the checkpoint that was loaded
        self._restored_logging = (0, 0)  # logging interval and step of the checkpoint
        self._former_handlers: dict[int, Any] = {}
        self._handlers: dict[int, Any] = {}  # to restore after training
        self._restored: dict[str, Any] | None = None
        self._saved_step, self._saved_at = 0, time.monotonic()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Save the signal handlers before Lightning replaces them."""
        self._former_handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state that Lightning leaves out."""
        state = {
            "random": random_state(),
            "metrics": metric_states(pl_module),
            "loader": loader.state_dict() if (loader := resumable_loader(trainer)) else None,
        }
        checkpoint[RESUME_KEY] = {
            "processes": gather(state, trainer.world_size),
            # metrics that were not logged again since the run was resumed come from its checkpoint
            "figures": self.metrics | {name: float(value) for name, value in trainer.callback_metrics.items()},
            "should_stop": trainer.should_stop,
            "log_every_n_steps": logging_interval(trainer),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the state until training starts, because setup draws random numbers."""
        self._restored = checkpoint.get(RESUME_KEY)
        self.metrics = self._restored["figures"] if self._restored else {}
        if self._restored:
            every = self._restored.get("log_every_n_steps", logging_interval(trainer))  # older checkpoints lack it
            self._restored_logging = every, checkpoint["global_step"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the state of the checkpoint and install the signal handlers."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if self._restored is not None:
            processes = self._restored["processes"]
            state = processes[trainer.global_rank % len(processes)]
            set_metric_states(pl_module, state["metrics"])
            trainer.should_stop = self._restored["should_stop"]
            if state["loader"] is not None and (loader := resumable_loader(trainer)):
                loader.load_state_dict(state["loader"])
            set_random_state(state["random"])
            self._restored = None
            if trainer.is_global_zero:
                log.info("Resuming after epoch %d, step %d.", trainer.current_epoch, trainer.global_step)
        if threading.current_thread() is threading.main_thread():
            listener.training = True
            for number in SIGNALS:
                signal.signal(number, self._record_signal)
            self._handlers = self._former_handlers

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save mid-epoch when a save is due; after the last batch, the end of the epoch does it."""
        if trainer.is_last_batch or trainer.fit_loop._should_accumulate():
            return
        signalled = self._signalled(trainer)
        if signalled or self._is_due(trainer):
            self._save(trainer)
        self._ending = signalled

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End an interrupted run after the metrics of its last step were logged."""
        if self._ending:
            raise Interrupted(self._signal, trainer.default_root_dir)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after the epoch, once all metrics are logged and all other callbacks have run."""
        self._drop_superseded(trainer)
        self._save(trainer)
        if self._signalled(trainer):
            raise Interrupted(self._signal, trainer.default_root_dir)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the signal handlers, and end the run if a signal arrived after the last epoch."""
        self._stop_handling_signals()
        if self._signalled(trainer):
            raise Interrupted(self._signal, trainer.default_root_dir)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers; if a pruned run has received a signal, raise it again for the sweep."""
        self._stop_handling_signals()
        if self._signal is not None and isinstance(exception, Pruned):
            signal.raise_signal(self._signal)

    def _drop_superseded(self, trainer: L.Trainer) -> None:
        """Drop the restored per-step metrics once the old logging interval would have replaced them.

        Per-epoch metrics have been logged again by now, except for validation, which may run less often.
        """
        every, step = self._restored_logging
        if every and every != logging_interval(trainer) and trainer.global_step // every > step // every:
            self.metrics = {name: value for name, value in self.metrics.items() if name.startswith("val/")}

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _is_due(self, trainer: L.Trainer) -> bool:
        steps, minutes = trainer.global_step - self._saved_step, (time.monotonic() - self._saved_at) / 60
        due = bool(self.every_n_train_steps and steps >= self.every_n_train_steps)
        due |= bool(self.every_n_minutes and minutes >= self.every_n_minutes)
        return self._any_process(trainer, due) if self.every_n_minutes else due

    def _signalled(self, trainer: L.Trainer) -> bool:
        return self._any_process(trainer, self._signal is not None)

    def _any_process(self, trainer: L.Trainer, decision: bool) -> bool:
        """Return whether the decision is true on any process."""
        return trainer.strategy.reduce_boolean_decision(decision, all=False) if trainer.world_size > 1 else decision

    def _record_signal(self, number: int, frame: Any) -> None:
        self._signal = number
        self._restore_handlers()  # a second signal ends the run at once

    def _stop_handling_signals(self) -> None:
        self._restore_handlers()
        listener.training = self._signal is not None  # this callback ends the run, not the listener

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def restored_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return the metrics restored from the checkpoint; further training replaces them."""
    return next(
        (callback.metrics for callback in trainer.checkpoint_callbacks if isinstance(callback, LastCheckpoint)), {}
    )


def logging_interval(trainer: Any) -> int:
    """Return `log_every_n_steps`, which mypy does not know; 0: no logging."""
    return trainer.log_every_n_steps


def gather(state: dict[str, Any], world_size: int) -> list[dict[str, Any]]:
    """Gather the state of every process, by rank."""
    if world_size == 1:
        return [state]
    states: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(states, state)
    return states


def resumable_loader(trainer: L.Trainer) -> KeepsPosition | None:
    """Return the training data loader if it can save and restore its position, else None."""
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

    Validation states of older checkpoints differ and are skipped: they are empty between epochs.
    """
    for name, state in states.items():
        metric = module.get_submodule(name)
        assert isinstance(metric, Metric)
        if state.keys() != {"updates", *metric._defaults}:
            continue
        for key, default in metric._defaults.items():  # list states are not checked
            if isinstance(default, torch.Tensor) and (
                fault := tensor_mismatch(state[key], default.shape, default.dtype)
            ):
                raise ValueError(f"The checkpoint's running metrics are damaged: {name}.{key} {fault}.")
        metric._update_count = state["updates"]
        for key in metric._defaults:
            value = state[key]
            setattr(metric, key, value.to(metric.device) if isinstance(value, torch.Tensor) else value)
