"""Train for a given time: as many steps as fit into it, with schedules that complete."""

import logging
import math
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from src.data.splits import LoadedSplits
from src.models.pace import Pace
from src.run.record import RunRecord
from src.run.run import Run
from src.speed.trial_steps import measure_steps
from src.system.durations import format_duration
from src.system.json_files import part

log = logging.getLogger(__name__)
clock = time.monotonic  # seconds

FIRST_CHECK = 32  # the first plan comes from a few steps: it is checked after 1/32 of the run, …
LATER_CHECKS = 4  # … and then each time after 1/4 of the remaining steps
LAST_CHECK = 0.01  # remaining fraction of the run at which the plan becomes final
MIN_LEFT = 2  # steps that a plan leaves at least: the last is at the end of the schedules
TOLERANCE = 0.002  # smaller relative changes of the number of steps need no new plan
RECENT = 8  # number of epochs whose ends are averaged


class Budget(L.Callback):
    """Plan how many steps fit into a time budget, and end the run after them with a validation.

    The budget covers training: from the set-up, including measurements by callbacks, to the end of the last epoch,
    including all validations and checkpoints. The first plan comes from steps on a copy of the model. It is checked
    against the clock some 15 times, more often towards the end, and the schedules are stretched or compressed to the
    new number of steps; see `Pace`. Between two checks nothing depends on the clock: a resumed run continues with its
    plan, and a reproduced one follows the recorded plans to the step.

    Early stopping is removed, because it would end the run before its schedules.

    Args:
        seconds: the budget.
        plans: pairs (step, total) of a recorded run, to be followed regardless of the clock.

    Raises:
        ValueError: the trainer limits the number of steps, or the run resumes from a checkpoint without a budget.
    """

    def __init__(self, seconds: float, plans: Sequence[tuple[int, int]] = ()) -> None:
        self.seconds, self._upcoming, self._follows_record = seconds, list(plans), bool(plans)
        self._pace: Pace | None = None
        self._steps_per_epoch = math.inf
        self._spent, self._since = 0.0, 0.0  # seconds before this session, and the time of its start
        self._step_seconds = 0.0  # the latest measurement
        # both in units of steps, which vary less with the load of the machine than seconds
        self._validation = 0.0  # as measured before training
        self._epoch_ends: list[float] = []  # validation, checkpoints and pictures, as measured in training
        self._next_check = 0
        self._elapsed, self._batches = 0.0, 0  # seconds and number of batches since the last check
        self._batch_end: float | None = None  # also the start of an epoch; None before the first batch, which warms up
        self._epoch_end: float | None = None

    # ---- the state of an interrupted run

    def state_dict(self) -> dict[str, Any]:
        """Return the plans, the time spent, and the measurements for the next plan."""
        return {
            "seconds": self.seconds,
            "spent": self.spent(),
            "plans": [list(plan) for plan in self._pace.plans] if self._pace else [],
            "upcoming": [list(plan) for plan in self._upcoming],
            "follows_record": self._follows_record,
            "steps_per_epoch": self._steps_per_epoch,
            "next_check": self._next_check,
            "elapsed": self._elapsed,
            "batches": self._batches,
            "step_seconds": self._step_seconds,
            "validation": self._validation,
            "epoch_ends": list(self._epoch_ends),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Restore the plan of the interrupted run, before its schedules are built."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        state = checkpoint["callbacks"].get(self.state_key)
        if state is None:
            raise ValueError(
                f"budget={format_duration(self.seconds)} cannot resume from a checkpoint of a run without a budget: "
                "leave it out, or start a new run from the weights with init_from=….ckpt."
            )
        if not are_plans(state.get("plans")):
            raise ValueError("The plans in the checkpoint are damaged: start a new run with init_from=….ckpt.")
        self._spent, self._steps_per_epoch = state["spent"], state["steps_per_epoch"]
        self._elapsed, self._batches = state["elapsed"], state["batches"]
        self._step_seconds, self._validation = state["step_seconds"], state["validation"]
        self._epoch_ends = list(state["epoch_ends"])
        same = state["seconds"] == self.seconds
        self._follows_record = same and state["follows_record"]
        self._next_check = state["next_check"] if same else 0
        self._upcoming = [(step, total) for step, total in state["upcoming"]] if same else []
        self._pace = Pace((step, total) for step, total in state["plans"])
        self._apply(trainer, pl_module)

    # ---- before training

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start the clock, and let only the budget end the run."""
        if stage != "fit":
            return
        self._since = clock()
        if trainer.max_steps != -1:
            raise ValueError(
                f"budget={format_duration(self.seconds)} and trainer.max_steps={trainer.max_steps} both end the run: "
                "give one of them."
            )
        trainer.fit_loop.min_epochs, trainer.fit_loop.max_epochs = 0, 1  # optimizers are built before there is a plan
        untyped: Any = trainer  # its callbacks are set dynamically by Lightning
        untyped.callbacks = [one for one in untyped.callbacks if not isinstance(one, EarlyStopping)]

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Make the first plan, after other callbacks have chosen their settings."""
        if self._pace is None:
            trainer.fit_loop.setup_data()  # counts the batches
            self._steps_per_epoch = trainer.num_training_batches
            if math.isfinite(self._steps_per_epoch):
                self._steps_per_epoch = math.ceil(self._steps_per_epoch / trainer.accumulate_grad_batches)
            if self._follows_record:
                _, total = self._upcoming.pop(0)
            else:
                self._step_seconds, validation_seconds = measure_steps(trainer, pl_module)
                self._validation = validation_seconds / self._step_seconds
                total = self._total(trainer)
            self._pace = Pace([(0, total)])
            self._next_check = self._next(0, max(total // FIRST_CHECK, 1))
            self._apply(trainer, pl_module)
            trainer.strategy.setup_optimizers(trainer)  # again, with schedules of this length
        self._log_plan(trainer, "about {epochs:,.1f} epochs, {steps:,} steps")

    # ---- during training

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure how long the end of the last epoch took."""
        if self._epoch_end is not None:
            self._batch_end = clock()
            if step_seconds := self._measured_step(trainer):
                end = (self._batch_end - self._epoch_end) / step_seconds
                self._epoch_ends = [*self._epoch_ends, end][-RECENT:]
            self._epoch_end = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Make the last batch of the run the last of its epoch, for all that depends on it."""
        assert self._pace is not None
        is_last = trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if is_last and trainer.global_step == self._pace.total_steps - 1:
            trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
            if trainer.check_val_every_n_epoch is not None:
                trainer.check_val_every_n_epoch = 1  # validate this epoch regardless of its number

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure a batch, check the plan if it is due, and end the run after its last step."""
        assert self._pace is not None
        now = clock()
        if self._batch_end is not None:
            self._elapsed, self._batches = self._elapsed + now - self._batch_end, self._batches + 1
        self._batch_end, self._epoch_end = (None, now) if trainer.is_last_batch else (now, None)
        remaining = self._pace.total_steps - trainer.global_step
        if remaining <= 0:
            trainer.should_stop = True  # Lightning validates before it stops
        elif trainer.global_step >= self._next_check and (
            self._follows_record or (self._batches and remaining > MIN_LEFT)
        ):
            self._check(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log how much training fitted into the budget."""
        self._log_plan(trainer, "{epochs:,.1f} epochs, {steps:,} steps, in {spent}")

    def spent(self) -> float:
        """Return the seconds of training so far, without work that an interruption lost."""
        return self._spent + clock() - self._since

    # ---- planning

    def _check(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Make a new plan from the speed since the last check."""
        assert self._pace is not None
        step, planned = trainer.global_step, self._pace.total_steps
        if self._follows_record:
            _, total = self._upcoming.pop(0)
        else:
            self._step_seconds = self._measured_step(trainer)
            total = self._total(trainer)
        if self._follows_record or abs(total - planned) > TOLERANCE * planned:
            self._pace.change(step, total)
            self._apply(trainer, pl_module)
            self._record(trainer)
        self._elapsed, self._batches = 0.0, 0
        remaining = self._pace.total_steps - step
        is_final = remaining <= LAST_CHECK * self._pace.total_steps
        self._next_check = self._next(step, remaining if is_final else max(remaining // LATER_CHECKS, 1))

    def _next(self, step: int, after: int) -> int:
        """Return the step of the next check, `after` more steps or as recorded."""
        assert self._pace is not None
        if self._follows_record:
            return self._upcoming[0][0] if self._upcoming else self._pace.total_steps
        return step + after

    def _measured_step(self, trainer: L.Trainer) -> float:
        """Return the seconds per step since the last check, or the earlier value if no batch was measured since."""
        if not self._batches:
            return self._step_seconds
        return max(self._elapsed / self._batches, 1e-9) * trainer.accumulate_grad_batches

    def _total(self, trainer: L.Trainer) -> int:
        """Return how many steps the run should have; all processes follow the first."""
        step, end = trainer.global_step, statistics.fmean(self._epoch_ends or [self._validation])
        available = (self.seconds - self.spent()) / self._step_seconds
        if self._epoch_end is not None:  # the end of this epoch is still to come
            available -= end
        steps = steps_that_fit(available, end, self._steps_per_epoch, int(step % self._steps_per_epoch))
        total: int = trainer.strategy.broadcast(step + max(steps, MIN_LEFT))
        return total

    def _apply(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Apply the plan to the schedules and the progress bar."""
        assert self._pace is not None
        pl_module.pace = self._pace
        if isinstance(data := trainer.datamodule, LoadedSplits):  # type: ignore[attr-defined]  # set dynamically
            data.pace = self._pace
        trainer.fit_loop.max_epochs = math.ceil(self._pace.total_steps / self._steps_per_epoch) or -1

    @rank_zero_only
    def _log_plan(self, trainer: L.Trainer, template: str) -> None:
        """Log the plan, and record it; `template` formats `epochs`, `steps` and `spent`."""
        assert self._pace is not None
        steps = self._pace.total_steps
        text = template.format(epochs=steps / self._steps_per_epoch, steps=steps, spent=format_duration(self.spent()))
        log.info("budget=%s: %s", format_duration(self.seconds), text)
        self._record(trainer)

    def _record(self, trainer: L.Trainer) -> None:
        """Write the plans to the run's record, to reproduce it."""
        assert self._pace is not None
        RunRecord.add_entries(
            trainer, budget={"seconds": self.seconds, "spent": self.spent(), "plans": list(self._pace.plans)}
        )


def steps_that_fit(available: float, end: float, steps_per_epoch: float, done: int = 0) -> int:
    """Return how many more steps come closest to the available time; below 0 if it is over.

    Args:
        available: the time, in units of steps.
        end: the time that the end of each epoch takes, in units of steps; the last epoch may have fewer steps.
        steps_per_epoch: may be infinite.
        done: steps of the current epoch that are done.
    """
    available += done  # since the start of the epoch
    epochs = max(int(available // (steps_per_epoch + end)), 0)
    rest = available - (epochs * (steps_per_epoch + end) if epochs else 0)
    steps = int(rest - end)
    if steps < 1:  # another epoch of one step takes longer than the rest, and none leaves time over
        steps = int(1 + end < 2 * rest)
    whole = int(epochs * steps_per_epoch) if epochs else 0
    return whole + int(min(steps, max(steps_per_epoch - 1, 1))) - done


def recorded_plans(folder: str, seconds: float) -> list[tuple[int, int]]:
    """Return the plans of a recorded run with the same budget; none if it had another, or its record is damaged."""
    budget = part(Run(Path(folder)).record, "budget")
    plans = budget.get("plans")
    return [(step, total) for step, total in plans] if budget.get("seconds") == seconds and are_plans(plans) else []


def are_plans(plans: Any) -> TypeGuard[list[list[int]]]:
    """Return whether a value holds plans: pairs (step, total) of integers, in order, the first at step 0."""
    if not isinstance(plans, list) or not plans:
        return False
    if not all(isinstance(plan, list) and len(plan) == 2 and all(type(one) is int for one in plan) for plan in plans):
        return False
    follow = all(before[0] < after[0] < before[1] for before, after in pairwise(plans))
    return plans[0][0] == 0 and follow and all(step < total for step, total in plans)
