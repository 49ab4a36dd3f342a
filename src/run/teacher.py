"""Distil a trained net: `teacher=<run, checkpoint or exported model>`."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from src.models.distillation import Forward
from src.models.example_inputs import moved_to, padded_to
from src.models.task import Task
from src.predictor import CARD, RUNTIMES, input_kind, input_shape, load, read_card
from src.run.checkpoints import recorded_card
from src.run.instantiate import instantiate, load_model
from src.run.journal import journal
from src.run.record import RunRecord
from src.run.run import Run
from src.system.json_files import part
from src.system.safe_files import printable

DISTILLED = ("classes", "mask")  # kinds of outputs that are logits
KEY = "teacher"  # of `run.json`


@dataclass(frozen=True)
class LoadedTeacher:
    """A trained net with the description of its inputs and outputs.

    Args:
        path: as the user gave it, for messages.
        card: see `src.predictor`.
        forward: maps inputs (B, …), normalised as its own training data, to logits.
        checksum: SHA-256 of its files.
    """

    path: str
    card: Mapping[str, Any]
    forward: Forward
    checksum: str

    def for_student(self, card: Mapping[str, Any]) -> Forward:
        """Return a function from a student's inputs to the teacher's logits; see `src.models.distillation.Teacher`."""
        if not card:
            raise ValueError(f"teacher={self.path}: these data do not describe themselves, so it cannot be checked.")
        self.check_outputs(card["outputs"])
        kinds = [input_kind(one) for one in (self.card, card)]
        shapes = [input_shape(one) for one in (self.card, card)]
        if kinds[0] is not kinds[1]:
            raise ValueError(f"teacher={self.path} reads {kinds[0].noun}, but the data serve {kinds[1].noun}.")
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"teacher={self.path} reads inputs of the shape {shapes[0]}, but the data serve {shapes[1]}: choose "
                "the same sizes and channels for both."
            )
        convert = normalisation_change(card, self.card)
        return lambda inputs, *others: self.forward(convert(inputs), *others)

    def check_outputs(self, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        """Check that the teacher knows the classes of each output of a student.

        Raises:
            ValueError: it does not, or an output is not a class.
        """
        for name, ours in outputs.items():
            if ours["kind"] not in DISTILLED:
                raise ValueError(
                    f"teacher={self.path}: only classes can be learnt from a teacher, but {name} is of the kind "
                    f"{ours['kind']}."
                )
            theirs = self.card["outputs"].get(name)
            if theirs is None or theirs["kind"] != ours["kind"]:
                known = ", ".join(f"{other} ({output['kind']})" for other, output in self.card["outputs"].items())
                raise ValueError(f"teacher={self.path} predicts {known}, but the student {name} ({ours['kind']}).")
            if theirs["names"] != ours["names"]:
                counts = len(theirs["names"]), len(ours["names"])
                pairs = zip(theirs["names"], ours["names"], strict=False)
                their, our = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
                what = (
                    f"{their!a} where they have {our!a}" if counts[0] == counts[1] else f"{counts[0]}, not {counts[1]}"
                )
                raise ValueError(f"teacher={self.path} does not know the classes of these data: {what}.")


def add_teacher(run: Run, cfg: DictConfig, model: Any, record: RunRecord) -> None:
    """Let a model also learn from the teacher in a folder or file, and record which teacher it is.

    Raises:
        ValueError: it cannot be loaded, the model is not one of this project, or the resumed run learnt from another
            teacher of that name.
    """
    path = str(cfg.teacher)
    if not isinstance(model, Task):
        raise ValueError(f"teacher={path} can only teach a Task of this project, not {type(model).__name__}.")
    exported = run.ckpt_path is None and (run.folder / CARD).is_file()
    teacher = exported_teacher(run, path) if exported else trained_teacher(run, path, cfg.allowed_targets)
    if cfg.resume:
        check_unchanged(teacher, Run.open(cfg.resume).record)
    model.distillation = instantiate(cfg.distillation)(teacher)
    record.entries[KEY] = {"path": path, "sha256": teacher.checksum}
    journal.info("teacher: %s", printable(path))


def check_unchanged(teacher: LoadedTeacher, record: Mapping[str, Any]) -> None:
    """Check by the record of a run that its teacher has not changed.

    Raises:
        ValueError: its weights have changed.
    """
    resumed = record.get("resumed")
    starts = [record, *(resumed if isinstance(resumed, list) else [])]
    known = [part(start, KEY) for start in starts if isinstance(start, dict) and part(start, KEY)]
    if known and known[-1].get("path") == teacher.path and known[-1].get("sha256") != teacher.checksum:
        raise ValueError(
            f"teacher={teacher.path} has changed since this run began to learn from it: restore its original weights, "
            "or start a new run."
        )


def trained_teacher(run: Run, path: str, allowed_targets: Sequence[str] = ()) -> LoadedTeacher:
    """Load the net of a run with its best checkpoint, or with the one that is named.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is damaged, or does not describe its data.
    """
    ckpt_path = run.best_checkpoint()
    card = recorded_card(ckpt_path)
    if card is None:
        raise ValueError(f"teacher={path} does not describe its inputs: its data had no description.")
    with torch.random.fork_rng(devices=[]):  # a student has the same initial weights with and without a teacher
        task: Task = load_model(ckpt_path, allowed_targets)
    task.to(memory_format=torch.channels_last)  # filters take 10 to 60 % less time on a CPU

    def forward(*inputs: Tensor) -> Mapping[str, Tensor]:
        if task.device != inputs[0].device:
            task.to(inputs[0].device)
        return task.named_outputs(*(moved_to(task, one) for one in inputs))

    return LoadedTeacher(path, card, forward, hashlib.sha256(ckpt_path.read_bytes()).hexdigest())


def exported_teacher(run: Run, path: str) -> LoadedTeacher:
    """Load an exported model.

    Raises:
        ModuleNotFoundError: its runtime is not installed.
        ValueError: it is damaged, or may run code.
    """
    card = read_card(run.folder)
    if RUNTIMES[card["format"]] == "torch":
        raise ValueError(
            f"teacher={path} is an exported torch model, which may run code when it is loaded: name the run that it "
            "was exported from, or export that to OpenVINO or ONNX."
        )
    predictor = load(run.folder, threads=torch.get_num_threads())
    shape = input_shape(card)

    def forward(inputs: Tensor) -> Mapping[str, Tensor]:
        batch = padded_to(shape, inputs).cpu()
        results = predictor.results((batch.float() if batch.is_floating_point() else batch).numpy())
        return {name: torch.tensor(values, device=inputs.device) for name, values in results.items()}

    return LoadedTeacher(path, card, forward, hashlib.sha256(repr(sorted(card["files"].items())).encode()).hexdigest())


def normalisation_change(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return a function that converts inputs (B, …) from the normalisation of one card to that of another."""
    if "mean" not in ours or all(list(ours[key]) == list(theirs[key]) for key in ("mean", "std")):
        return lambda inputs: inputs
    (our_mean, their_mean), (our_std, their_std) = (
        [torch.tensor(card[key], dtype=torch.float64) for card in (ours, theirs)] for key in ("mean", "std")
    )
    axes = (
        (-1, 1, 1) if len(input_shape(ours)) == 3 else (-1,)
    )  # channels come first in images, features last in series
    scale = (our_std / their_std).float().view(axes)
    shift = ((our_mean - their_mean) / their_std).float().view(axes)
    return lambda inputs: inputs * scale.to(inputs.device) + shift.to(inputs.device)
