"""Live training curves in a notebook."""

import io
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

MIN_INTERVAL = 1.0  # seconds between two drawings, so that they take little time from short epochs
COLOURS = {"train": "#4477aa", "val": "#cc6677"}  # distinct for colour-blind readers, too


class LivePlot:
    """Draw the loss and the score of each epoch, below a line of text with the progress.

    Both replace the earlier output: a notebook keeps only the last drawing.
    """

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._curves: dict[str, list[float]] = {}  # metric by epoch; NaN where it was not measured
        self._names: Sequence[str] = ()
        self._line, self._label, self._total = "", "", 0.0
        self._handles: dict[str, Any] = {}
        self._drawn_at = float("-inf")
        self._is_drawn = True  # nothing left to draw

    def start(self, label: str, total: float) -> None:
        """Begin the progress of an epoch or a validation of `total` batches."""
        self._label, self._total = label, total
        self.update(0)

    def update(self, done: int) -> None:
        """Show how many batches are done."""
        self._show("text", self._text(f"{self._label}: {done}/{self._total:.0f}"))

    def add_epoch(self, epoch: int, metrics: Mapping[str, Any], score: Sequence[str], line: str) -> None:
        """Add the metrics of an epoch to the curves.

        Args:
            epoch: counted from 1.
            metrics: of the epoch, by name.
            score: the name of the score, if the task has one.
            line: describes the epoch in words.
        """
        self._names, self._line, self._is_drawn = ("loss", *score), line, False
        self._epochs.append(epoch)
        for name in (f"{stage}/{one}" for stage in COLOURS for one in self._names):
            self._curves.setdefault(name, []).append(float(metrics.get(name, float("nan"))))
        if time.monotonic() - self._drawn_at >= MIN_INTERVAL:
            self._draw()

    def end(self) -> None:
        """Show everything."""
        if not self._is_drawn:
            self._draw()
        self._show("text", self._text(""))

    def _text(self, progress: str) -> dict[str, str]:
        return {"text/plain": "\n".join(filter(None, (self._line, progress)))}

    def _draw(self) -> None:
        from matplotlib.figure import Figure  # not pyplot, whose state belongs to the notebook

        figure = Figure(figsize=(3.6 * len(self._names), 2.4), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(self._names), squeeze=False)[0], self._names, strict=True):
            for stage, colour in COLOURS.items():
                marker = "o" if len(self._epochs) == 1 else None
                axes.plot(self._epochs, self._curves[f"{stage}/{name}"], color=colour, marker=marker, label=stage)
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("epoch", fontsize=8)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8, frameon=False)
        with io.BytesIO() as file:
            figure.savefig(file, format="png", dpi=80)
            self._show(
                "curves", {"image/png": b64encode(file.getvalue()).decode(), "text/plain": "<curves of loss and score>"}
            )
        self._drawn_at, self._is_drawn = time.monotonic(), True

    def _show(self, place: str, data: dict[str, Any]) -> None:
        """Show data in the cell's output, replacing earlier data in the same place."""
        from IPython.display import display

        if place in self._handles:
            self._handles[place].update(data, raw=True)
        else:
            self._handles[place] = display(data, raw=True, display_id=True)
