"""Profile train steps: a table of modules, with their forward and backward times and slowest operators."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers.pytorch import RegisterRecordFunction
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.autograd.profiler import profile

log = logging.getLogger(__name__)

MODULE, BACKWARD = "[pl][module]", "autograd::engine::evaluate_function: "  # names of events start with these
OUTSIDE = "(loss, metrics, optimizer, data)"


class OperatorProfile(L.Callback):
    """Profile a few train steps, and report which modules of the net take the time, and in which operators.

    Args:
        skip: steps before the first profiled step.
        steps: steps to profile, within one epoch.
        rows: modules to show, the slowest first.
    """

    def __init__(self, skip: int = 5, steps: int = 5, rows: int = 15) -> None:
        if min(skip, steps - 1, rows - 1) < 0:
            raise ValueError(f"op_profile: skip={skip} must be at least 0, steps={steps} and rows={rows} at least 1.")
        self.skip, self.steps, self.rows = skip, steps, rows
        self.table = ""
        self._profile: profile | None = None
        self._contexts = ExitStack()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the profile."""
        if not self.table and self._profile is None and batch_idx == self.skip:
            self._contexts.enter_context(RegisterRecordFunction(nn.ModuleDict({"net": pl_module.net})))  # type: ignore[dict-item]
            self._profile = self._contexts.enter_context(profile(use_kineto=True))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after the last step to profile or at the end of the epoch, and report."""
        steps, finished = batch_idx + 1 - self.skip, self._profile
        if finished is not None and (steps >= self.steps or trainer.is_last_batch):
            self.stop()
            self.table = markdown(finished.function_events, steps, self.rows)
            self.report(trainer, steps)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Explain a missing table."""
        if not self.table:
            log.warning("op_profile: no epoch has more than skip=%d batches, so none was profiled.", self.skip)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the hooks if the run fails."""
        self.stop()

    def stop(self) -> None:
        """Stop the profile and remove the hooks of the modules."""
        self._contexts.close()
        self._profile = None

    @rank_zero_only
    def report(self, trainer: L.Trainer, steps: int) -> None:
        """Write the table to the log and to TensorBoard."""
        log.info("where a train step spends its time (mean of %d, milliseconds):\n%s", steps, self.table)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("op_profile", self.table, trainer.global_step)


def markdown(events: Iterable[Any], steps: int, rows: int) -> str:
    """Tabulate the slowest modules of profiled events."""
    forward, backward, operators = attribute(events)
    both = forward + backward
    lines: list[tuple[str, ...]] = [
        ("module", "forward", "backward", "share", "slowest operators"),
        ("---", "---:", "---:", "---:", "---"),
    ]
    for name, time in both.most_common(rows):
        slowest = ", ".join(f"{operator} {part / time:.0%}" for operator, part in operators[name].most_common(3))
        times = [f"{part / 1000 / steps:.2f}" for part in (forward[name], backward[name])]
        lines.append((name, *times, f"{time / both.total():.0%}", slowest))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    aligned = [[f"{cell:{'<>>><'[column]}{widths[column]}}" for column, cell in enumerate(line)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)


def attribute(events: Iterable[Any]) -> tuple[Counter[str], Counter[str], dict[str, Counter[str]]]:
    """Sum up the time of operators for each module: forward, backward, and by operator, in microseconds.

    A forward operator belongs to the module it ran in. A node of the backward graph carries the sequence number of the
    forward operator that created it, and belongs to the same module.
    """
    events = list(events)
    origins = {
        event.sequence_nr: module_of(event)
        for event in events
        if event.sequence_nr >= 0 and enclosing(event, BACKWARD) is None
    }
    forward: Counter[str] = Counter()
    backward: Counter[str] = Counter()
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        time, node = event.self_cpu_time_total, enclosing(event, BACKWARD)
        module = module_of(event) if node is None else origins.get(node.sequence_nr, OUTSIDE)
        (forward if node is None else backward)[module] += time
        if event.name.startswith("aten::"):
            operators[module][event.name.removeprefix("aten::")] += time
    return forward, backward, operators


def module_of(event: Any) -> str:
    """Return the name and class of the module in whose forward pass an event happened: `net.0 (Conv2d)`."""
    call = enclosing(event, MODULE)
    if call is None:
        return OUTSIDE
    path, _, name = call.name.removeprefix(MODULE).rpartition(": ")
    return f"{name} ({path.rpartition('.')[2]})"


def enclosing(event: Any, prefix: str) -> Any:
    """Return an event or its nearest ancestor whose name has a prefix; None if there is none."""
    while event is not None and not event.name.startswith(prefix):
        event = event.cpu_parent
    return event
