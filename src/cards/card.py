"""The card of a net: its layers and totals as plain values, for the table, the pages and other programs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from src.cards import sizes
from src.cards.layers import Layer, trace
from src.cards.memory import activations
from src.cards.stages import stages_of
from src.cards.timing import bf16_note, int8_latency, latency, shares
from src.cards.walk import Place
from src.models.example_inputs import noise_inputs
from src.models.task import Task
from src.predictor import read_card
from src.run.file_names import CHECKPOINTS
from src.run.record import environment
from src.system.cpu import OtherPrograms, allowed_cpus
from src.system.json_files import write_json
from src.system.safe_files import printable

CARD = "card.json"
TIMED = 8  # maximum batch size of the forward pass whose time shares are measured
NOT_TRAINED = ("Dropout", "StochasticDepth", "Identity", "DropPath")  # no-ops in evaluation mode
UNITS = {4: "px", 3: "steps", 2: "steps"}  # of receptive fields, by the number of axes of the input


def make_card(
    task: Task, *, name: str, data: str, batch_size: int, timing: bool, seconds: float, run: Path | None = None
) -> dict[str, Any]:
    """Describe the net of a task.

    Args:
        task: the task; its weights and statistics and the random state are left unchanged.
        name: name of the model, for titles.
        data: name of the data it is meant for.
        batch_size: batch size for which memory is reported.
        timing: whether to measure times, too.
        seconds: approximate duration of each measurement.
        run: folder of the run the net is from; its exports and checkpoints are described.

    Returns:
        `name`, `net`, `data`, `task`, `input_shape`, `batch_size`, `unit` (of `sees`), `totals`, `layers`, `stages`,
        `notes` and `environment`, see docs/models.md.
    """
    net, example = task.net, task.example_input_array
    assert isinstance(example, torch.Tensor)
    shape = tuple(example.shape[1:])
    layers, unknown = trace(net, example[:1])
    memory = activations(net, shape, batch_size)
    add(layers, memory.peak_at, "memory")
    add(layers, memory.kept_at, "kept")
    notes = notes_of(layers, unknown)
    totals: dict[str, Any] = {
        "params": sum(one.params for one in layers),
        "params_frozen": sum(one.numel() for one in net.parameters() if not one.requires_grad),
        "macs": sum(one.macs for one in layers),
        "weights_bytes": sizes.weights_bytes(net),
        "checkpoint_bytes": sizes.weights_bytes(net) + sizes.optimizer_bytes(task),
        "int8_bytes": sizes.int8_bytes(net),
        "int8_is_estimate": True,
        "inference_bytes": memory.peak,
        "training_bytes": memory.kept,
        "latency_ms": {"fp32": None, "bf16": None, "int8": None},
    }
    if timing:
        others = OtherPrograms()
        batch = noise_inputs(min(batch_size, TIMED), shape)
        measured = shares(net, batch, seconds)
        add(layers, measured, "share")
        one, speeds = noise_inputs(1, shape), totals["latency_ms"]
        speeds |= {key: latency(net, one, precision, seconds) for key, precision in PRECISIONS.items()}
        threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
        rest = 1 - sum(one.share or 0 for one in layers)
        notes.append(
            f"time: shares of a forward pass of {len(batch)}, {rest:.0%} between layers; median latency of 1; {threads}"
        )
        notes += [f"bf16: {bf16_note()}"] if bf16_note() else []
        notes += busy_notes(others.cpus())
    if run is not None:
        notes += describe_run(run, totals, timing, seconds)
    kept = [one for one in layers if one.operations or one.params or one.kept or one.kind not in NOT_TRAINED]
    layers = renumbered(layers, kept)
    stages, places = stages_of(layers, net)
    return {
        "name": name,
        "net": type(net).__name__,
        "data": data,
        "task": type(task).__name__,
        "input_shape": list(shape),
        "batch_size": batch_size,
        "unit": UNITS[example.ndim],
        "timed": timing,
        "totals": totals,
        "layers": [plain(one, *place) for one, place in zip(layers, places, strict=True)],
        "stages": stages,
        "notes": notes,
        "environment": environment(),
    }


BUSY = 0.2  # CPUs
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


def add(layers: list[Layer], values: Mapping[Place, Any], name: str) -> None:
    """Add to each layer the value at its place.

    Memory kept outside of any layer is added to the last layer of the same module, or else of the net. Peaks and time
    shares outside of layers are left out.
    """
    by_place = {one.place: one for one in layers}
    for place, value in values.items():
        layer = by_place.get(place)
        if layer is None and name == "kept":  # computed by a module in training only
            layer = next((one for one in reversed(layers) if one.name == place[0]), layers[-1])
        if layer is not None:
            setattr(layer, name, (getattr(layer, name) or 0) + value)


def notes_of(layers: Iterable[Layer], unknown: Iterable[str]) -> list[str]:
    """Return notes on inexact receptive fields and on parameters that are not called."""
    names = sorted(unknown)
    notes = [f"receptive field: {', '.join(names)} counted as if they mixed all positions"] if names else []
    if any(not one.operations and one.params and not one.is_module for one in layers):
        notes.append("some parameters belong to modules that the forward pass does not call")
    return notes


def busy_notes(cpus: float | None) -> list[str]:
    """Return a note if other programs used enough CPUs to distort the measured times."""
    if cpus is None or cpus < BUSY:
        return []
    return [f"time: other programs used {cpus:.1f} of {allowed_cpus()} CPUs meanwhile, so all times are too long"]


def describe_run(run: Path, totals: dict[str, Any], timing: bool, seconds: float) -> list[str]:
    """Replace the int8 estimates by values of the run's int8 model, and return notes on it and on the checkpoints."""
    notes = []
    for path in sorted((run / CHECKPOINTS).glob("*.ckpt")):
        if path.is_file():
            notes.append(f"{CHECKPOINTS}/{printable(path.name)}: {path.stat().st_size / 1e6:.2f} MB on disk")
    for folder in (path for path in (run / "int8", *sorted(run.glob("export/*_int8"))) if path.is_dir()):
        try:
            model = read_card(str(folder))
            measured = int8_latency(folder, model, seconds) if timing else None
        except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
            notes.append(f"int8: not measured. {error}")
            continue
        totals |= {"int8_bytes": model["size_bytes"], "int8_is_estimate": False}
        totals["latency_ms"]["int8"] = measured
        notes.append(f"int8: {folder.relative_to(run)}, {model['format']}")
        break
    return notes


def renumbered(layers: list[Layer], kept: list[Layer]) -> list[Layer]:
    """Return the kept layers, with their sources renumbered accordingly."""
    numbers = {one.place: number for number, one in enumerate(kept)}
    new = {number: numbers[one.place] for number, one in enumerate(layers) if one.place in numbers}
    return [replace(one, sources={new.get(source, -1) for source in one.sources}) for one in kept]


def plain(layer: Layer, stage: int, repeat: int) -> dict[str, Any]:
    """Return a layer as plain values, with the numbers of its stage and of the repeat within the stage, both from 0."""
    return {
        "stage": stage,
        "repeat": repeat,
        "name": layer.name,
        "kind": layer.kind,
        "kernel": layer.kernel,
        "shape": list(layer.shape),
        "params": layer.params,
        "macs": layer.macs,
        "sees": None if layer.sees is None else list(layer.sees),
        "sees_all": layer.sees_all,
        "memory": layer.memory,
        "kept": layer.kept,
        "share": layer.share,
        "sources": sorted(layer.sources),
    }


def write_card(card: Mapping[str, Any], folder: Path) -> None:
    """Write a card as JSON."""
    write_json(folder / CARD, card)
