"""Skip Lightning's no-op work at every step, which takes as long as the layers of a small net.

Only public interfaces are used: the Trainer's profiler, hooks that Lightning skips if they are not callable, and a
method of the run's strategy. Overridden hooks are called as usual.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import Strategy

TRAINING_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
STEP_HOOKS = (*TRAINING_HOOKS, "on_validation_batch_start", "on_validation_batch_end")
STRATEGY_HOOKS = ("on_train_batch_start",)
TRANSFER_HOOKS = ("transfer_batch_to_device", "on_after_batch_transfer")


class NoProfiler(PassThroughProfiler):
    """Measure nothing, in one context for all hooks; Lightning's profiler creates a generator for each."""

    def __init__(self) -> None:
        super().__init__()
        self._nothing = nullcontext("")

    def profile(self, action_name: str) -> AbstractContextManager[str]:  # type: ignore[override]  # not a generator
        """Return a context that does nothing."""
        return self._nothing


def skip_noop_work(trainer: L.Trainer, model: L.LightningModule, datamodule: L.LightningDataModule) -> None:
    """Skip the work that has no effect at every step of a run."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set dynamically by Lightning
        skip_unused_hooks(callback, L.Callback, STEP_HOOKS)
    # not its validation hooks, whose signatures Lightning inspects
    skip_unused_hooks(model, L.LightningModule, TRAINING_HOOKS)
    skip_unused_hooks(trainer.strategy, Strategy, STRATEGY_HOOKS)
    leave_batches_on_cpu(trainer, model, datamodule)
    skip_nvml_check()


def is_overridden(instance: Any, base: type, hook: str) -> bool:
    """Return whether an object overrides a method of its base class."""
    return getattr(type(instance), hook) is not getattr(base, hook) or hook in vars(instance)


def skip_unused_hooks(instance: Any, base: type, hooks: Sequence[str]) -> None:
    """Make Lightning skip the hooks that an object does not override, which do nothing."""
    for hook in hooks:
        if not is_overridden(instance, base, hook):
            setattr(instance, hook, None)


def leave_batches_on_cpu(trainer: L.Trainer, model: L.LightningModule, datamodule: L.LightningDataModule) -> None:
    """Skip the batch transfer when the run is on the CPU and no transfer hook is overridden."""
    strategy: Any = trainer.strategy
    overridden = [is_overridden(model, L.LightningModule, hook) for hook in TRANSFER_HOOKS]
    overridden += [is_overridden(datamodule, L.LightningDataModule, hook) for hook in TRANSFER_HOOKS]
    if any(overridden) or is_overridden(strategy, Strategy, "batch_to_device") or strategy.root_device.type != "cpu":
        return
    strategy.batch_to_device = Transfer(trainer, model, datamodule, strategy.batch_to_device)


@dataclass
class Transfer:
    """Skip the batch transfer for the run's own model; another model may override the transfer hooks."""

    trainer: Any
    model: L.LightningModule
    datamodule: L.LightningDataModule
    transfer: Callable[..., Any]

    def __call__(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        """Return the batch on the device."""
        if self.trainer.lightning_module is self.model and self.trainer.datamodule is self.datamodule:
            return batch
        return self.transfer(batch, device, dataloader_idx)


def skip_nvml_check() -> None:
    """Let torch ask the CUDA driver for a GPU if there is none, as it does without Lightning.

    Lightning makes torch look for NVIDIA's management library instead, so that processes with a GPU can be forked;
    optimizers ask at every step, and a missing library is searched for on the disk every time.
    """
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
