"""Where a train step spends its time: a table of modules, forward and backward, with their slowest operators."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.autograd.profiler import profile, record_function

log = logging.getLogger(__name__)

MODULE, BACKWARD = "module ", "autograd::engine::evaluate_function: "
OUTSIDE = "(loss, metrics, optimizer, data)"


class OperatorProfile(L.Callback):
    """Profile a few train steps, and write down which modules of the net take the time, and by which operators.

    Args:
        skip: steps before the first that is profiled.
        steps: that are profiled, within one epoch.
        rows: modules shown, the slowest first.
    """

    def __init__(self, skip: int = 5, steps: int = 5, rows: int = 15) -> None:
        if min(skip, steps - 1, rows - 1) < 0:
            raise ValueError(f"op_profile: skip={skip} must be at least 0, steps={steps} and rows={rows} at least 1.")
        self.skip, self.steps, self.rows = skip, steps, rows
        self.table = ""
        self._hooks: list[Any] = []
        self._profile: profile | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to profile."""
        if not self.table and self._profile is None and batch_idx == self.skip:
            for name, module in pl_module.net.named_modules(prefix="net"):  # type: ignore[union-attr]
                self._hooks += record_module(module, f"{name} ({type(module).__name__})")
            self._profile = profile(use_kineto=True)
            self._profile.__enter__()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End it after so many steps, or with the epoch, and report."""
        if self._profile is None or not (batch_idx + 1 >= self.skip + self.steps or trainer.is_last_batch):
            return
        steps, finished = batch_idx + 1 - self.skip, self._profile
        self.stop()
        self.table = markdown(finished.function_events, steps, self.rows)
        self.report(trainer, steps)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say why there is no table, where there is none."""
        if not self.table:
            log.warning("op_profile: no epoch has more than skip=%d batches, so that none was profiled.", self.skip)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave no hook behind when the run fails."""
        self.stop()

    def stop(self) -> None:
        """End the profile and take the marks off the modules."""
        if self._profile is not None:
            self._profile.__exit__(None, None, None)
            self._profile = None
        while self._hooks:
            self._hooks.pop().remove()

    @rank_zero_only
    def report(self, trainer: L.Trainer, steps: int) -> None:
        """Write the table to the log and to TensorBoard."""
        log.info("where a train step spends its time (mean of %d, milliseconds):\n%s", steps, self.table)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("op_profile", self.table, trainer.global_step)


def record_module(module: nn.Module, name: str) -> list[Any]:
    """Let a profile know when a module's forward pass begins and ends; returns the hooks that do."""
    running: list[record_function] = []

    def begin(*_: Any) -> None:
        running.append(record_function(MODULE + name))
        running[-1].__enter__()

    def end(*_: Any) -> None:
        running.pop().__exit__(None, None, None)

    return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]


def markdown(events: Iterable[Any], steps: int, rows: int) -> str:
    """The slowest modules of profiled events, as a table."""
    forward, backward, operators = attribute(events)
    total = sum(forward.values()) + sum(backward.values())
    lines: list[tuple[str, ...]] = [
        ("module", "forward", "backward", "share", "slowest operators"),
        ("---", "---:", "---:", "---:", "---"),
    ]
    modules = sorted(set(forward) | set(backward), key=lambda name: -(forward[name] + backward[name]))
    for name in modules[:rows]:
        both = forward[name] + backward[name]
        slowest = ", ".join(f"{operator} {time / both:.0%}" for operator, time in operators[name].most_common(3))
        times = [f"{value / 1000 / steps:.2f}" for value in (forward[name], backward[name])]
        lines.append((name, *times, f"{both / total:.0%}", slowest))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    aligned = [[f"{cell:{'<>>><'[column]}{widths[column]}}" for column, cell in enumerate(line)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)


def attribute(events: Iterable[Any]) -> tuple[Counter[str], Counter[str], dict[str, Counter[str]]]:
    """Sum up the time of operators for each module: forward, backward, and operator by operator, in microseconds.

    A forward operator belongs to the module it ran in. A node of the backward graph carries the sequence number of the
    forward operator that made it, and belongs to the same module.
    """
    events = list(events)
    origin: dict[int, str] = {}
    for event in events:
        if event.sequence_nr >= 0 and not is_backward(event):
            origin[event.sequence_nr] = module_of(event)
    forward: Counter[str] = Counter()
    backward: Counter[str] = Counter()
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        time = event.self_cpu_time_total
        node = next((one for one in chain(event) if one.name.startswith(BACKWARD)), None)
        name = module_of(event) if node is None else origin.get(node.sequence_nr, OUTSIDE)
        (forward if node is None else backward)[name] += time
        if event.name.startswith("aten::"):
            operators[name][event.name.removeprefix("aten::")] += time
    return forward, backward, operators


def is_backward(event: Any) -> bool:
    """Whether an event happened while gradients were computed."""
    return any(one.name.startswith(BACKWARD) for one in chain(event))


def module_of(event: Any) -> str:
    """The name of the module in whose forward pass an event happened."""
    return next((one.name.removeprefix(MODULE) for one in chain(event) if one.name.startswith(MODULE)), OUTSIDE)


def chain(event: Any) -> Iterable[Any]:
    """An event, and those it happened within."""
    while event is not None:
        yield event
        event = event.cpu_parent
