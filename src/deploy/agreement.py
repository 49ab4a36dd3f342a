"""How well a model that was made of a net agrees with it: by their outputs, and by the metrics of the task."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from src.models.example_inputs import padded_to
from src.models.task import Task
from src.predictor import Run

TOLERANCE = 1e-4  # for float32 outputs; relative to the largest where that is above 1
UNITS = {"max": "points", "min": "%"}  # units of a drop, by the score's mode


@dataclass(frozen=True)
class Agreement:
    """How the outputs of two models for the same images compare, and how good each of them is."""

    images: int
    score: str  # the name of the task's metric, such as "acc"
    mode: str  # "max" or "min"
    value: float  # value of the score, for the model that is examined
    reference_value: float
    max_difference: float  # largest difference of outputs
    largest_output: float  # largest output of the reference
    equal: float | None  # the share of equal predictions; None where no output is of classes
    unequal_beyond_ties: int  # predictions that differ though the reference's first two differ by more than rounding

    @property
    def drop(self) -> float:
        """Return how much worse the examined model is: in points (0.01) of a score that is maximised, in percent of the
        reference's where it is minimised.
        """
        if self.mode == "max":
            return 100 * (self.reference_value - self.value)
        worse = self.value - self.reference_value
        if self.reference_value == 0:
            return math.inf if worse > 0 else 100 * worse
        return 100 * worse / abs(self.reference_value)

    @property
    def described_drop(self) -> str:
        """Return the drop with its unit, such as "0.50 points in acc"."""
        return f"{self.drop:.2f} {UNITS[self.mode]} in {self.score}"

    @property
    def described_change(self) -> str:
        """Return how the score changes from the reference to the examined model, such as "-0.50 points in acc"."""
        change = -self.drop if self.mode == "max" else self.drop
        return f"{change:+.2f} {UNITS[self.mode]} in {self.score}"


@torch.no_grad()
def agreement(
    examined: Run, reference: Run, batches: Iterable[Any], task: Task, outputs: Mapping[str, Mapping[str, Any]]
) -> Agreement:
    """Compare two models of a task on batches of its data.

    Args:
        examined: the model to check, such as an exported one.
        reference: the model to compare with, such as the net that it was exported from.
        batches: batches of inputs (B, …) and targets (B, …).
        task: it gives the metrics; its own are left alone.
        outputs: outputs of the model's card.

    Raises:
        ValueError: there are no images, or an output of either model is not finite.
    """
    ours, theirs = task.make_metrics("test"), task.make_metrics("test")
    images = predictions = equal = beyond = 0
    difference = largest = 0.0
    assert isinstance(task.example_input_array, torch.Tensor)
    for batch in map(task.prepare, batches):
        inputs = padded_to(task.example_input_array.shape[1:], batch[0]).numpy()
        targets = task.targets(batch)
        found, wanted = examined(inputs), reference(inputs)
        images += len(inputs)
        check_finite(wanted, "net")  # first, for what is made of it cannot be better
        check_finite(found, "exported model")
        for metrics, arrays in ((ours, found), (theirs, wanted)):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            task.update_metrics(metrics, task.losses(tensors, targets), tensors, targets)
        for name, output in outputs.items():
            a, b = found[name], wanted[name]  # (B, …)
            difference = max(difference, float(np.abs(a - b).max()))
            largest = max(largest, float(np.abs(b).max()))
            if output["kind"] == "classes":
                same, ties = compare_classes(a, b)
                equal += int(same.sum())
                beyond += int((~same & ~ties).sum())
                predictions += len(same)
    if not images:
        raise ValueError("There are no images to compare the exported model with the net on.")
    value, reference_value = (float(metrics.compute()[task.score]) for metrics in (ours, theirs))
    share = equal / predictions if predictions else None
    return Agreement(images, task.score, task.mode, value, reference_value, difference, largest, share, beyond)


def check_finite(outputs: Mapping[str, np.ndarray], name: str) -> None:
    """Check that all outputs (B, …) of a model are numbers, for others compare as equal or as nothing.

    Raises:
        ValueError: names the output that has something else.
    """
    for output, values in outputs.items():
        unfit = values[~np.isfinite(values)]
        if len(unfit):
            raise ValueError(
                f"The {name}'s output {output} is not finite, but {unfit[0]} for some images: it is of no use as it is."
            )


def compare_classes(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where logits (B, classes) predict the reference's class (B,), and where the reference is tied (B,)."""
    best, second = -np.partition(-b, 1, axis=1)[:, :2].T if b.shape[1] > 1 else (b[:, 0], b[:, 0] - np.inf)
    rounding = 2 * TOLERANCE * np.abs(b).max(axis=1).clip(min=1)
    return a.argmax(axis=1) == b.argmax(axis=1), best - second <= rounding


def check(found: Agreement, name: str, precision: str, max_drop: float) -> None:
    """Check that an exported model agrees with its net.

    Raises:
        ValueError: says by how much it does not.
    """
    tolerance = TOLERANCE * max(1.0, found.largest_output)
    if precision == "fp32" and not (found.max_difference <= tolerance and not found.unequal_beyond_ties):
        unequal = f", {found.unequal_beyond_ties} of {found.images} predictions differ beyond ties"
        raise ValueError(
            f"The exported model ({name}) disagrees with the net: outputs differ by up to {found.max_difference:.2g} "
            f"(allowed: {tolerance:.2g}){'' if found.equal is None else unequal}."
        )
    if precision != "fp32" and not found.drop <= max_drop:
        raise ValueError(
            f"The exported model ({name}) is worse than the net by {found.described_drop} on {found.images} test "
            f"images, more than max_drop={max_drop:g}: {found.reference_value:.4f} became {found.value:.4f}. To accept "
            "it, raise quantization.max_drop."
        )


def metrics_of(found: Agreement) -> dict[str, Any]:
    """Return what a card says of the comparison."""
    return {
        f"test_{found.score}": found.value,
        f"test_{found.score}_net": found.reference_value,
        "test_images": found.images,
        "max_difference": found.max_difference,
        **({} if found.equal is None else {"equal_predictions": found.equal}),
    }
