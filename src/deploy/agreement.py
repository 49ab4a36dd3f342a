"""Compare an exported model with its net, by their outputs and by the metrics of the task."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from src.models.example_inputs import padded_to
from src.models.task import Task
from src.predictor import Run

TOLERANCE = 1e-4  # for float32 outputs; relative to the largest if that is above 1
UNITS = {"max": "points", "min": "%"}  # units of a drop, by the score's mode


@dataclass(frozen=True)
class Agreement:
    """Differences between the outputs of two models for the same images, and the score of each."""

    images: int
    score: str  # the name of the task's metric, such as "acc"
    mode: str  # "max" or "min"
    value: float  # the candidate's score
    reference_value: float  # the reference's score
    max_difference: float  # largest absolute difference between outputs
    largest_output: float  # largest output of the reference
    equal: float | None  # the share of equal predictions; None if no output is of classes
    unequal_beyond_ties: int  # predictions that differ although the reference's top two differ by more than rounding

    @property
    def drop(self) -> float:
        """Return how much worse the candidate's score is: in points (0.01) if it is maximised, in percent of the
        reference's if it is minimised.
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
        """Return how the score changes from the reference to the candidate, such as "-0.50 points in acc"."""
        change = -self.drop if self.mode == "max" else self.drop
        return f"{change:+.2f} {UNITS[self.mode]} in {self.score}"


@torch.no_grad()
def agreement(
    candidate: Run, reference: Run, batches: Iterable[Any], task: Task, outputs: Mapping[str, Mapping[str, Any]]
) -> Agreement:
    """Compare two models of a task on batches of its data.

    Args:
        candidate: the model to check, such as an exported one.
        reference: the model to compare with, such as the net that it was exported from.
        batches: batches of inputs (B, …) and targets (B, …).
        task: creates the metrics; its own are not updated.
        outputs: the outputs in the model's card.

    Raises:
        ValueError: there are no images, or an output of either model is not finite.
    """
    candidate_metrics, reference_metrics = task.make_metrics("test"), task.make_metrics("test")
    images = predictions = equal = beyond_ties = 0
    difference = largest = 0.0
    assert isinstance(task.example_input_array, torch.Tensor)
    for batch in map(task.prepare, batches):
        inputs = padded_to(task.example_input_array.shape[1:], batch[0]).numpy()
        targets = task.targets(batch)
        actual, expected = candidate(inputs), reference(inputs)
        images += len(inputs)
        check_finite(expected, "net")  # first: no exported model can be better
        check_finite(actual, "exported model")
        for metrics, arrays in ((candidate_metrics, actual), (reference_metrics, expected)):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            task.update_metrics(metrics, task.losses(tensors, targets), tensors, targets)
        for name, output in outputs.items():
            a, b = actual[name], expected[name]  # (B, …)
            difference = max(difference, float(np.abs(a - b).max()))
            largest = max(largest, float(np.abs(b).max()))
            if output["kind"] == "classes":
                same, ties = compare_classes(a, b)
                equal += int(same.sum())
                beyond_ties += int((~same & ~ties).sum())
                predictions += len(same)
    if not images:
        raise ValueError("There are no images to compare the exported model with the net on.")
    value, reference_value = (
        float(metrics.compute()[task.score]) for metrics in (candidate_metrics, reference_metrics)
    )
    share = equal / predictions if predictions else None
    return Agreement(images, task.score, task.mode, value, reference_value, difference, largest, share, beyond_ties)


def check_finite(outputs: Mapping[str, np.ndarray], name: str) -> None:
    """Check that all outputs (B, …) of a model are finite, because NaN and infinity cannot be compared.

    Raises:
        ValueError: names the output that is not.
    """
    for output, values in outputs.items():
        invalid = values[~np.isfinite(values)]
        if len(invalid):
            raise ValueError(
                f"The {name}'s output {output} is not finite, but {invalid[0]} for some images: it cannot be used."
            )


def compare_classes(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where logits (B, classes) predict the reference's class (B,), and where the reference is tied (B,)."""
    best, second = -np.partition(-b, 1, axis=1)[:, :2].T if b.shape[1] > 1 else (b[:, 0], b[:, 0] - np.inf)
    rounding = 2 * TOLERANCE * np.abs(b).max(axis=1).clip(min=1)
    return a.argmax(axis=1) == b.argmax(axis=1), best - second <= rounding


def check(result: Agreement, name: str, precision: str, max_drop: float) -> None:
    """Check that an exported model agrees with its net.

    Raises:
        ValueError: it does not; says by how much.
    """
    tolerance = TOLERANCE * max(1.0, result.largest_output)
    if precision == "fp32" and not (result.max_difference <= tolerance and not result.unequal_beyond_ties):
        unequal = f", {result.unequal_beyond_ties} of {result.images} predictions differ beyond ties"
        raise ValueError(
            f"The exported model ({name}) disagrees with the net: outputs differ by up to {result.max_difference:.2g} "
            f"(allowed: {tolerance:.2g}){'' if result.equal is None else unequal}."
        )
    if precision != "fp32" and not result.drop <= max_drop:
        raise ValueError(
            f"The exported model ({name}) is worse than the net by {result.described_drop} on {result.images} test "
            f"images, more than max_drop={max_drop:g}: {result.reference_value:.4f} became {result.value:.4f}. To "
            "accept it, raise quantization.max_drop."
        )


def metrics_of(result: Agreement) -> dict[str, Any]:
    """Return the entries of a card that describe the comparison."""
    return {
        f"test_{result.score}": result.value,
        f"test_{result.score}_net": result.reference_value,
        "test_images": result.images,
        "max_difference": result.max_difference,
        **({} if result.equal is None else {"equal_predictions": result.equal}),
    }
