"""Counting does not change a net, and is complete."""

import pytest
import torch
from torch import nn

from src.models.components.layers import Attention
from src.models.counting import count_macs


@pytest.mark.parametrize("training", [True, False])
def test_a_net_stays_in_its_mode(training: bool) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).train(training)
    assert count_macs(net, torch.zeros(1, 3)) == 12  # a batch of one, which batch norm takes in evaluation alone
    assert net.training == net[1].training == training


def test_the_products_of_attention_count() -> None:
    tokens, dim = 5, 8
    linear, products = 4 * tokens * dim**2, 2 * tokens**2 * dim  # query, key, value, output; scores, means
    assert count_macs(Attention(dim, 2, 0.0), torch.zeros(1, tokens, dim)) == linear + products
