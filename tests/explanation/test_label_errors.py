"""Confident learning finds the labels that were changed, the worst first."""

import torch

from src.explanation.label_errors import likely_errors


def test_the_rule_by_hand() -> None:
    probabilities = torch.tensor(
        [
            [0.9, 0.1],
            [0.7, 0.3],
            [0.1, 0.9],  # labelled 0: reaches the threshold of 1
            [0.45, 0.55],  # labelled 0: more probably 1, but below its threshold
            [0.2, 0.8],
            [0.3, 0.7],
            [0.8, 0.2],  # labelled 1: reaches the threshold of 0
        ]
    )
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    # thresholds: (0.9 + 0.7 + 0.1 + 0.45) / 4 = 0.5375 and (0.8 + 0.7 + 0.2) / 3 = 0.567
    suspects, counted = likely_errors(probabilities, labels)
    assert suspects.tolist() == [2, 6] and counted.tolist() == [1, 0]  # margins -0.8 and -0.6


def test_a_class_without_samples_is_nobodys() -> None:
    probabilities = torch.tensor([[0.2, 0.3, 0.5], [0.3, 0.6, 0.1]])
    assert not len(likely_errors(probabilities, torch.tensor([0, 1]))[0])


def test_changed_labels_are_found() -> None:
    truth = torch.arange(600) % 6
    labels = truth.clone()
    labels[:30] = (labels[:30] + 1) % 6
    logits = 4 * torch.nn.functional.one_hot(truth).float() + 0.3 * torch.randn(600, 6)
    suspects, counted = likely_errors(logits.softmax(1), labels)
    found = set(suspects.tolist())
    assert len(found & set(range(30))) >= 20 and found <= set(range(30))
    assert torch.equal(counted, truth[suspects])
