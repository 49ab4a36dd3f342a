"""Scores that separate have an AUROC of 1; other data are converted to the format of the run's data."""

import pytest
import torch
from torch import nn

from src.explanation.ood import auroc, last_features, nearness, scores_of
from src.explanation.other_data import check_name, renormalised
from tests.explanation.conftest import MakeSubject


def test_auroc_is_a_share_of_pairs() -> None:
    low, high = torch.tensor([-300.0, 1.0, 2.0]), torch.tensor([3.0, 500.0])
    assert auroc(high, low) == 1.0 and auroc(low, high) == 0.0
    assert auroc(torch.tensor([1.0, 3.0]), torch.tensor([2.0])) == pytest.approx(0.5)
    assert auroc(torch.ones(4), torch.ones(5)) == pytest.approx(0.5)  # ties
    assert auroc(torch.tensor([60.0, 61.0]), torch.tensor([59.0])) == 1.0  # the sigmoid of each would be 1


def test_both_scores_are_high_for_sure_logits() -> None:
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.9, 0.8]])
    for name in ("max_softmax", "energy"):
        assert scores_of(sure)[name] > scores_of(unsure)[name]
    assert scores_of(unsure)["energy"].item() == pytest.approx(unsure.exp().sum().log().item())


def test_inputs_are_normalised_anew() -> None:
    pixels = torch.rand(2, 3, 4, 4)
    theirs, ours = ({"mean": [m, m, m], "std": [s, s, s]} for m, s in ((0.5, 0.2), (0.1, 0.4)))
    found = renormalised((pixels - 0.5) / 0.2, theirs, ours)
    torch.testing.assert_close(found, (pixels - 0.1) / 0.4)
    steps = torch.rand(2, 5, 3)
    torch.testing.assert_close(renormalised((steps - 0.5) / 0.2, theirs, ours), (steps - 0.1) / 0.4)
    tokens = torch.arange(4)[None]
    assert renormalised(tokens, {}, {}) is tokens


def test_an_unknown_name_is_answered() -> None:
    with pytest.raises(ValueError, match=r"There is no ood=fashion_mnis in configs/data/\. Did you mean fashion_mnist"):
        check_name("fashion_mnis")


def test_the_nearest_is_found_by_what_the_last_linear_layer_is_given(make_subject: MakeSubject) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 4), nn.Softplus())
    batches = [torch.randn(3, 1, 8, 8), torch.randn(2, 1, 8, 8)]
    outputs, features = last_features(make_subject(net), batches)
    assert [len(one["class"]) for one in outputs] == [3, 2] and features is not None
    torch.testing.assert_close(features, nn.functional.normalize(net[:3](torch.cat(batches))))
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert nearness(points, torch.tensor([[0.0, 1.0], [0.0, 4.0]])).tolist() == [-1.0, -3.0]
    assert last_features(make_subject(nn.Conv2d(1, 4, 8)), batches)[1] is None
