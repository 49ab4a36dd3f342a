"""The curves of a run: its figures after each epoch, from TensorBoard's events or, where there are none, from CSV."""

import csv
import logging
import math
from pathlib import Path

Curve = list[tuple[float, float]]  # (epoch, value)
SHOWN = ("train/loss", "val/loss", "val/acc")


def read_curves(folder: Path) -> dict[str, Curve]:
    """The curves of a run directory; empty where it keeps none."""
    return from_tensorboard(folder / "tensorboard") or from_csv(folder / "csv" / "metrics.csv")


def from_tensorboard(folder: Path) -> dict[str, Curve]:
    """The curves in a folder of events; of what a resumed run did again, the last counts."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing import event_accumulator

    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it tells of every file
    sizes = {event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 1, event_accumulator.TENSORS: 1}
    events = event_accumulator.EventAccumulator(str(folder), size_guidance=sizes).Reload()
    tags = events.Tags()["scalars"]
    steps = {event.step: event.value for event in events.Scalars("epoch")} if "epoch" in tags else {}
    curves: dict[str, Curve] = {}
    for name in SHOWN:
        if name in tags:
            # others are those of the HParams tab
            points = {steps[event.step]: event.value for event in events.Scalars(name) if event.step in steps}
            curves[name] = after_epochs(points)
    return {name: curve for name, curve in curves.items() if curve}


def from_csv(path: Path) -> dict[str, Curve]:
    """The curves in the file of Lightning's CSV logger."""
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    curves: dict[str, Curve] = {}
    for name in SHOWN:
        points = {number(row.get("epoch")): number(row[name]) for row in rows if row.get(name)}
        curves[name] = after_epochs(points)
    return {name: curve for name, curve in curves.items() if curve}


def number(text: str | None) -> float:
    """A figure of a CSV file; NaN for what is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def after_epochs(points: dict[float, float]) -> Curve:
    """Values by how many epochs they come after; those of a loss that has diverged have no place in a picture."""
    return sorted(
        (epoch + 1, value) for epoch, value in points.items() if math.isfinite(epoch) and math.isfinite(value)
    )


def mean_curve(curves: list[Curve]) -> Curve:
    """The mean of several curves, over the epochs that all of them have."""
    if not curves:
        return []
    tables = [dict(curve) for curve in curves]
    epochs = sorted(set.intersection(*map(set, tables)))
    return [(epoch, sum(table[epoch] for table in tables) / len(tables)) for epoch in epochs]


def thinned(curve: Curve, most: int = 150) -> Curve:
    """At most about so many points of a curve, the last among them."""
    step = -(-len(curve) // most)
    return curve[::step] + curve[-1:] if step > 1 else curve
