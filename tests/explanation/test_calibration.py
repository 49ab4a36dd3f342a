"""ECE and temperature scaling agree with their definitions."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from src.explanation.calibration import MIN_TEMPERATURE, calibration_section, fit_temperature, reliability
from src.explanation.section import LeftOut
from tests.explanation.conftest import MakeSubject


def test_ece_is_what_one_counts_by_hand() -> None:
    confidences = torch.tensor([0.55, 0.58, 0.9, 0.92, 0.99])  # bins of 1/15: two in the 9th, two in the 14th, one last
    logits = torch.stack([confidences.log(), (1 - confidences).log()], 1)
    labels = torch.tensor([0, 1, 0, 0, 1])  # right, wrong, right, right, wrong
    found = reliability(logits, labels)
    assert found.counts.nonzero().flatten().tolist() == [8, 13, 14]
    by_hand = 2 / 5 * abs(0.5 - (0.55 + 0.58) / 2) + 2 / 5 * abs(1 - (0.9 + 0.92) / 2) + 1 / 5 * 0.99
    assert found.ece == pytest.approx(by_hand, abs=1e-6)


def test_ece_is_that_of_torchmetrics() -> None:
    logits, labels = 3 * torch.randn(500, 4), torch.randint(4, (500,))
    theirs = multiclass_calibration_error(logits.softmax(1), labels, num_classes=4, n_bins=15, norm="l1")
    assert reliability(logits, labels).ece == pytest.approx(float(theirs), abs=1e-6)


def test_the_temperature_has_the_least_nll_and_changes_no_prediction() -> None:
    truth = torch.randn(2000, 5)
    labels = torch.distributions.Categorical(logits=truth).sample()
    logits = 2.5 * truth  # overconfident by a factor
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(2.5, rel=0.1)
    best = F.cross_entropy(logits / temperature, labels)
    assert all(best < F.cross_entropy(logits / (factor * temperature), labels) for factor in (0.97, 1.03))
    assert torch.equal((logits / temperature).argmax(1), logits.argmax(1))
    assert reliability(logits / temperature, labels).ece < reliability(logits, labels).ece / 3


def test_a_net_without_mistakes_gets_the_coldest_temperature() -> None:
    labels = torch.arange(30) % 3
    assert fit_temperature(F.one_hot(labels).float(), labels) == pytest.approx(MIN_TEMPERATURE)


def test_the_section_tells_before_and_after(make_subject: MakeSubject) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    section, temperatures = calibration_section(make_subject(net))
    figures = section.figures["class"]
    assert figures["temperature"] == temperatures["class"] > 0
    assert figures["nll_calibrated"] < figures["nll"]
    assert sum(figures["bins"]["counts"]) == 200 and all(map(math.isfinite, figures["bins"]["accuracy"]))


def test_too_few_validation_images_are_a_reason(make_subject: MakeSubject) -> None:
    with pytest.raises(LeftOut, match="at least 100 validation samples, and there are 0"):
        calibration_section(make_subject(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), val_size=0))
