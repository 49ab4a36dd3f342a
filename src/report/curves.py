"""The curves of a run: its metrics after each epoch, from TensorBoard's event files or CSV."""

import csv
import os
import statistics
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from src.report.run_files import is_metric
from src.system.safe_files import open_regular, read_text

Curve = list[tuple[float, float]]  # (number of epochs trained, value)
Scalars = dict[str, dict[int, float]]  # values by tag and step
MAX_FILE_BYTES = 256 * 1024**2
MAX_RECORD_BYTES = 64 * 1024  # a scalar takes 50 bytes, a picture much more


def read_curves(folder: Path, names: Sequence[str]) -> dict[str, Curve]:
    """Read the curves of metrics from a run directory, without empty curves and values that cannot be drawn."""
    for read, path in ((read_events, folder / "tensorboard"), (read_csv, folder / "csv" / "metrics.csv")):
        scalars = read(path)
        epochs, curves = scalars.get("epoch", {}), {}
        for name in names:
            # the HParams tab also logs values, at steps without an epoch
            values = {epochs[step]: value for step, value in scalars.get(name, {}).items() if step in epochs}
            curve = sorted(
                (epoch + 1, value) for epoch, value in values.items() if is_metric(epoch) and is_metric(value)
            )
            if curve:
                curves[name] = curve
        if curves:
            return curves
    return {}


def read_events(folder: Path) -> Scalars:
    """Read the scalars of TensorBoard's event files; of steps that a resumed run repeated, the last values count."""
    paths = sorted(folder.glob("events.out.tfevents.*"))
    if not paths:
        return {}
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    scalars: Scalars = {}
    for path in paths:
        with suppress(ValueError, DecodeError):  # the rest of the file cannot be read
            for record in read_records(path):
                event = Event.FromString(record)
                if event.session_log.status == SessionLog.START:  # a resumed run repeats the steps from here on
                    for tag, points in scalars.items():
                        scalars[tag] = {step: value for step, value in points.items() if step < event.step}
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the complete records of an event file, without large ones such as pictures.

    Raises:
        ValueError: the file cannot be read.
    """
    with open_regular(path) as file:
        end = min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES)
        while file.tell() < end and len(head := file.read(12)) == 12:  # a length, and its checksum
            (length,) = struct.unpack("<Q", head[:8])
            if file.tell() + length + 4 > end:
                return
            if length <= MAX_RECORD_BYTES:
                yield file.read(length)
            else:
                file.seek(length, os.SEEK_CUR)
            file.seek(4, os.SEEK_CUR)  # the checksum


def read_csv(path: Path) -> Scalars:
    """Read the file of Lightning's CSV logger, with rows as steps. Values that are not numbers are left out."""
    scalars: Scalars = {}
    with suppress(FileNotFoundError, ValueError, csv.Error):
        for index, row in enumerate(csv.DictReader(read_text(path, MAX_FILE_BYTES).splitlines())):
            for name, text in row.items():
                with suppress(ValueError, TypeError):  # TypeError: a row that is too short or too long
                    scalars.setdefault(name, {})[index] = float(text)
    return scalars


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Average curves over the epochs that all of them have."""
    tables = [dict(curve) for curve in curves]
    epochs = sorted(set.intersection(*map(set, tables))) if tables else []
    return [(epoch, statistics.fmean(table[epoch] for table in tables)) for epoch in epochs]


def thin_out(curve: Curve, max_points: int = 150) -> Curve:
    """Reduce a curve to about `max_points` points, including the last."""
    step = -(-len(curve) // max_points)
    return curve[::step] + curve[-1:] if step > 1 else curve
