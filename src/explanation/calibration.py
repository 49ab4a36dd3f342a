"""Calibration of the net's probabilities: ECE, reliability, and temperature scaling.

Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from src.explanation.section import Chart, LeftOut, Section, Table, curves, percent
from src.explanation.subject import Subject, label_of

TITLE = "Calibration"
BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MIN_SAMPLES = 100  # validation samples needed to fit a temperature


@dataclass(frozen=True)
class Reliability:
    """Samples binned by their confidence: counts, mean confidence and accuracy (BINS,); empty bins are 0.

    Args:
        counts: number of samples.
        confidence: mean of the highest probability.
        accuracy: share of correct predictions.
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor

    @property
    def ece(self) -> float:
        """Return the expected calibration error: the mean of |accuracy - confidence| over bins, weighted by samples."""
        gaps = (self.accuracy - self.confidence).abs() * self.counts
        return float(gaps.sum() / self.counts.sum())

    def curve(self) -> list[tuple[float, float]]:
        """Return (confidence, accuracy) in percent for the bins with samples."""
        values = zip(self.confidence.tolist(), self.accuracy.tolist(), self.counts.tolist(), strict=True)
        return [(100 * confidence, 100 * accuracy) for confidence, accuracy, count in values if count]

    def as_figures(self) -> dict[str, list[float]]:
        """Return plain lists."""
        return {name: getattr(self, name).tolist() for name in ("counts", "confidence", "accuracy")}


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Bin samples with logits (N, classes) and labels (N,) by the highest probability, into bins of equal width."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1  # (N,): bin b is (b / bins, (b + 1) / bins]
    counts = torch.bincount(place, minlength=bins).double()
    sums = [
        torch.zeros(bins, dtype=torch.double).index_add_(0, place, values)
        for values in (confidence, (predicted == labels).double())
    ]
    return Reliability(counts, *(total / counts.clamp(min=1) for total in sums))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T that minimises the negative log-likelihood of labels (N,) under logits (N, classes) / T.

    It is convex in 1 / T; bisection finds the zero of its derivative.
    """
    logits = logits.double()
    own = logits.gather(1, labels[:, None]).squeeze(1)  # (N,)
    low, high = math.log(1 / MAX_TEMPERATURE), math.log(1 / MIN_TEMPERATURE)  # bounds of log(1 / T)
    for _ in range(60):
        middle = (low + high) / 2
        expected = ((math.exp(middle) * logits).softmax(dim=1) * logits).sum(dim=1)  # (N,)
        low, high = (low, middle) if (expected - own).mean() > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def calibration_section(subject: Subject) -> tuple[Section, dict[str, float]]:
    """Measure calibration on the test samples, before and after scaling by a temperature fitted on validation samples.

    Returns:
        The section, and the temperature of each output.
    """
    names = subject.class_outputs()
    count = len(subject.splits["val"]) if "val" in subject.splits else 0
    if count < MIN_SAMPLES:
        raise LeftOut(f"A temperature is fitted to at least {MIN_SAMPLES} validation samples, and there are {count}.")
    figures, temperatures = dict[str, Any](), dict[str, float]()
    rows, parts = [], list[Chart | Table]()
    for name in names:
        val, test = subject.results("val")[name], subject.results("test")[name]
        assert val.logits is not None and val.labels is not None and test.logits is not None and test.labels is not None
        temperature = temperatures[name] = fit_temperature(val.logits, val.labels)
        before, after = (reliability(test.logits / scale, test.labels) for scale in (1.0, temperature))
        nll, calibrated = (F.cross_entropy(test.logits / scale, test.labels).item() for scale in (1.0, temperature))
        figures[name] = {
            "temperature": temperature,
            **{"ece": before.ece, "ece_calibrated": after.ece, "nll": nll, "nll_calibrated": calibrated},
            **{"bins": before.as_figures(), "bins_calibrated": after.as_figures()},
        }
        shares = [percent(before.ece, 2), percent(after.ece, 2)]
        rows.append([name, f"{temperature:.3f}", *shares, f"{nll:.4f}", f"{calibrated:.4f}"])
        perfect = [(0.0, 0.0), (100.0, 100.0)]
        drawn = {"as trained": before.curve(), f"T = {temperature:.3g}": after.curve(), "perfect": perfect}
        parts.append(curves(f"Reliability{label_of(name, names)}", "confidence, %", "accuracy, %", drawn))
    head = ["output", "temperature", "ECE", "ECE, calibrated", "NLL", "NLL, calibrated"]
    val_count, test_count = (subject.splits[split].described for split in ("val", "test"))
    used = f"Fitted to {val_count} validation samples, measured on {test_count} test samples."
    note = (
        f"ECE, the expected calibration error: samples are put into {BINS} bins of equal width by the probability of "
        "the predicted class; ECE is the mean of |accuracy − mean probability| over the bins, weighted by samples. "
        "Dividing all logits by one temperature, which minimises the negative log-likelihood (NLL) of validation "
        "samples, changes probabilities but no prediction (Guo et al. 2017). src/predict.py and src/export.py use it "
        "with calibrated=true."
    )
    return Section(TITLE, note, figures, [Table("Before and after", head, rows, used), *parts]), temperatures
