"""Tables by class and confusions, compared to a confusion matrix counted by hand."""

import pytest
import torch

from src.explanation.mistakes import class_table, confused_pairs

COUNTS = torch.tensor([[8, 2, 0], [1, 5, 4], [0, 0, 0]])


def test_shares_of_a_class_by_hand() -> None:
    table, figures = class_table(COUNTS, ["cat", "dog", "eel"], "Accuracy")
    assert [row[0] for row in table.rows] == ["dog", "cat", "eel"]  # the least accurate first, without samples last
    assert figures["dog"] == {
        "count": 10,
        "accuracy": 0.5,
        "precision": pytest.approx(5 / 7),
        "iou": pytest.approx(5 / 12),
    }
    assert table.rows[0][1:] == ["10", "50.0 %", "71.4 %", "41.7 %", "eel (4)"]
    assert table.rows[2][2] == "–"


def test_pairs_are_those_confused_most() -> None:
    assert confused_pairs(COUNTS) == [(1, 2, 4), (0, 1, 2), (1, 0, 1)]
