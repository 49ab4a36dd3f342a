"""The curves of a run: its figures after each epoch, from TensorBoard's events or, where there are none, from CSV."""

import csv
import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from src.report.run_files import is_metric
from src.system.safe_files import open_regular, read_text

Curve = list[tuple[float, float]]  # (epoch, value)
MOST_BYTES = 256 * 1024**2  # of a file
MOST_RECORD = 64 * 1024  # bytes; a scalar takes 50, a picture much more


def read_curves(folder: Path, names: Sequence[str]) -> dict[str, Curve]:
    """The curves of a run directory that have these names; empty where it keeps none."""
    return from_tensorboard(folder / "tensorboard", names) or from_csv(folder / "csv" / "metrics.csv", names)


def from_tensorboard(folder: Path, names: Sequence[str]) -> dict[str, Curve]:
    """The curves in a folder of events; of what a resumed run did again, the last counts."""
    found = read_scalars(folder)
    steps = found.get("epoch", {})
    curves: dict[str, Curve] = {}
    for name in names:
        # others are those of the HParams tab
        points = {steps[step]: value for step, value in found.get(name, {}).items() if step in steps}
        curves[name] = after_epochs(points)
    return {name: curve for name, curve in curves.items() if curve}


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """The scalars of a folder of events, by tag and step; pictures, which TensorBoard keeps, are passed."""
    paths = sorted(folder.glob("events.out.tfevents.*"))
    if not paths:
        return {}
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    found: dict[str, dict[int, float]] = {}
    for path in paths:
        try:
            for record in read_records(path):
                event = Event.FromString(record)
                if event.session_log.status == SessionLog.START:  # a resumed run: what comes after is done again
                    for tag, points in found.items():
                        found[tag] = {step: value for step, value in points.items() if step < event.step}
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        found.setdefault(value.tag, {})[event.step] = value.simple_value
        except (ValueError, DecodeError):  # what comes after it cannot be told
            continue
    return found


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a file of events but for large ones, as far as they are whole.

    Raises:
        ValueError: the file cannot be read.
    """
    with open_regular(path) as file:
        end = min(os.fstat(file.fileno()).st_size, MOST_BYTES)
        while file.tell() < end and len(head := file.read(12)) == 12:  # a length, and its checksum
            (length,) = struct.unpack("<Q", head[:8])
            if file.tell() + length + 4 > end:
                return
            if length <= MOST_RECORD:
                yield file.read(length)
            else:
                file.seek(length, os.SEEK_CUR)
            file.seek(4, os.SEEK_CUR)  # the checksum


def from_csv(path: Path, names: Sequence[str]) -> dict[str, Curve]:
    """The curves in the file of Lightning's CSV logger."""
    try:
        rows = list(csv.DictReader(read_text(path, MOST_BYTES).splitlines()))
    except (FileNotFoundError, ValueError, csv.Error):
        return {}
    curves: dict[str, Curve] = {}
    for name in names:
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
    return sorted((epoch + 1, value) for epoch, value in points.items() if is_metric(epoch) and is_metric(value))


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
