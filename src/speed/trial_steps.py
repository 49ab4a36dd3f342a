"""Measure a run's steps before it starts, on a copy of its model, without any effect on the run."""

import copy
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.seed import isolate_rng

from src.speed.measure import seconds_per_step, train_steps

WARM_UP = 3  # steps that allocate gradients and the optimizer's state
SECONDS = 1.0  # how long steps are measured, and how long validation


def measure_steps(trainer: L.Trainer, pl_module: Any) -> tuple[float, float]:
    """Measure the seconds of an optimizer step, including its batches, and the seconds of a validation.

    Weights, random state and the order of the data do not change.
    """
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]  # set dynamically by Lightning
    context = trainer.strategy.precision_plugin.train_step_context
    with isolate_rng():
        model = trial_copy(trainer, pl_module)
        batches = endless_batches(datamodule.train_dataloader, trainer)
        step = synchronized(train_steps(model, lambda: next(batches), context), trainer)
        for _ in range(WARM_UP):
            step()
        step_seconds = seconds_per_step(step, SECONDS) * trainer.accumulate_grad_batches
        loader = datamodule.val_dataloader()
        count = number_of_batches(sized_len(loader), trainer.limit_val_batches)
        validation = islice(on_device(loader, trainer), count)

        def evaluate() -> None:
            model.step(next(validation), model.val_metrics)

        model.eval()
        start, done = time.perf_counter(), 0
        with torch.no_grad(), context():
            while done < count and time.perf_counter() - start < SECONDS:
                synchronized(evaluate, trainer)()
                done += 1
        return step_seconds, (time.perf_counter() - start) * count / max(done, 1)


def trial_copy(trainer: L.Trainer, pl_module: Any) -> Any:
    """Return a copy of a model, without its trainer, for trial steps.

    Its norms are not synchronized, since each process makes as many trial steps as it has time for.
    """
    model = copy.deepcopy(pl_module, {id(trainer): None})
    if isinstance(trainer.strategy, ParallelStrategy) and trainer.strategy._layer_sync is not None:
        model = trainer.strategy._layer_sync.revert(model)
    if pl_module.net._compiled_call_impl is not None:  # a copy is not compiled
        model.net.compile()
    return model


def number_of_batches(length: int | None, limit: float) -> int:
    """Return how many batches of a loader are used under Lightning's limit: a number, or a fraction of its length."""
    if isinstance(limit, int):
        return limit if length is None else min(limit, length)
    return int((length or 0) * limit)


def endless_batches(make_loader: Callable[[], Any], trainer: L.Trainer) -> Iterator[Any]:
    """Yield the batches of a loader on the device of training, epoch after epoch."""
    while True:
        yield from on_device(make_loader(), trainer)


def on_device(loader: Any, trainer: L.Trainer) -> Iterator[Any]:
    """Yield the batches of a loader on the device of training."""
    for batch in loader:
        yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


def synchronized(step: Callable[[], Any], trainer: L.Trainer) -> Callable[[], Any]:
    """Return a step that also waits for the GPU, if there is one."""
    if trainer.strategy.root_device.type != "cuda":
        return step

    def synchronized_step() -> None:
        step()
        torch.cuda.synchronize()

    return synchronized_step
