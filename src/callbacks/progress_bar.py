"""A progress bar on a terminal, curves in a notebook, and a line of metrics per epoch everywhere else."""

import time
from functools import cached_property
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from src.callbacks.live_plot import LivePlot
from src.run.journal import completed_epochs, epoch_line, score_names


class ProgressBar(LightningProgressBar):
    """Show the progress of an epoch, and print a line of metrics after it; in a notebook, draw them as curves.

    Args:
        refresh_per_second: how often the bar is redrawn.
    """

    def __init__(self, refresh_per_second: float = 4) -> None:
        super().__init__()
        self._interval = 1 / refresh_per_second
        self._enabled = True
        self._bar: Progress | None = None
        self._plot: LivePlot | None = None  # of a training run in a notebook
        self._last_drawn = 0.0
        self._printed_epochs = 0

    @cached_property
    def console(self) -> Console:
        """The console, created on first use because its locks cannot be pickled."""
        return Console()

    def disable(self) -> None:
        """Disable the output; Lightning calls this on every rank except 0."""
        self._enabled = False

    def enable(self) -> None:
        """Enable the output again."""
        self._enabled = True

    def on_fit_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Start the curves, in a notebook."""
        if self._enabled and self.console.is_jupyter:
            self._plot = LivePlot()

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Print the metrics of the previous epoch and start the next one's bar."""
        self._print_epoch(trainer)
        self._start_epoch(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar."""
        self._update(batch_idx + 1)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Start the bar of a validation or, before training, of the sanity check."""
        label = "sanity check" if trainer.sanity_checking else "validation"
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._start(label, sum(batches))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Update the bar."""
        self._update(batch_idx + 1)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Remove the bar and, if validation ran mid-epoch, show the epoch's bar again."""
        self._stop()
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.fit_loop.epoch_loop.done:
            self._start_epoch(trainer)

    def on_test_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Start the bar of the test."""
        self._start("test", sum(trainer.num_test_batches))

    on_test_batch_end = on_validation_batch_end

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Print the metrics of the last epoch and remove the bar."""
        self._stop()
        self._print_epoch(trainer)
        self._end_plot()

    def on_test_end(self, *_: Any) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(self, *_: Any) -> None:
        """Remove the bar, to restore the terminal."""
        self._stop()
        self._end_plot()

    def _start_epoch(self, trainer: L.Trainer) -> None:
        self._start(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", self.total_train_batches)

    def _start(self, label: str, total: float) -> None:
        self._stop()
        if self._plot is not None:
            self._plot.start(label, total)
        if self._enabled and self.console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            # `_update` redraws, because rich's refresh thread would take time from training
            self._bar = Progress(*columns, console=self.console, transient=True, auto_refresh=False)
            self._bar.add_task(label, total=total)
            self._bar.start()

    def _update(self, done: int) -> None:
        if self._bar is None and self._plot is None:
            return
        now = time.monotonic()
        if now - self._last_drawn < self._interval:
            return
        self._last_drawn = now
        if self._plot is not None:
            self._plot.update(done)
        elif self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, refresh=True)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _end_plot(self) -> None:
        if self._plot is not None:
            self._plot.end()
            self._plot = None

    def _print_epoch(self, trainer: L.Trainer) -> None:
        self._stop()
        epoch, line = completed_epochs(trainer), epoch_line(trainer)
        if self._enabled and epoch > self._printed_epochs and line is not None:
            self._printed_epochs = epoch
            if self._plot is not None:
                self._plot.add_epoch(epoch, trainer.callback_metrics, score_names(trainer.lightning_module), line)
                return
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
