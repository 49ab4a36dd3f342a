"""Measuring tools: what they count, and what they do not change."""

import pytest
import torch
from torch import nn

from src.config.composing import compose, parse
from src.models.counting import count_macs
from src.run.instantiate import instantiate
from src.speed import measure


def test_blocks_run_in_turn_and_all_count() -> None:
    calls: list[str] = []
    times = measure.blocks({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, seconds=0)
    assert calls == ["a", "b", "a", "b", "a", "b"]  # the first of each warms up
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}
    assert all(value > 0 for values in times.values() for value in values)


def test_macs_are_those_of_the_layers() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert count_macs(net, torch.zeros(1, 3, 4, 4)) == 16 * 8 * 27 + 128 * 5


def test_spread_is_half_the_distance_of_the_quartiles() -> None:
    assert measure.spread([10.0]) == 0
    assert measure.spread([8.0, 9.0, 10.0, 11.0, 12.0]) == (11.5 - 8.5) / 2 / 10


def test_peak_memory_sees_what_was_held_within_it() -> None:
    with measure.peak_memory() as before:
        pass
    with measure.peak_memory() as peak:
        torch.ones(50_000_000)
    assert peak[0] - before[0] > 150e6


def test_latencies_are_at_least_five_and_each_a_single_step() -> None:
    calls: list[None] = []
    assert len(measure.latencies(lambda: calls.append(None), seconds=0)) == 5
    assert len(calls) == 6


def test_an_optimizer_that_averages_weights_is_measured_in_its_training_mode() -> None:
    schedulefree = pytest.importorskip("schedulefree", reason="its optimizers need the extra [schedulefree]")
    overrides = ["model=mnist_sdn_8k", "model/optimizer=schedule_free", "model/scheduler=none"]
    model = instantiate(compose("train", parse(overrides)).model)
    before = [weight.clone() for weight in model.parameters()]
    measure.train_step(model, model.example_batch(4))()
    assert isinstance(model.make_optimizer(), schedulefree.AdamWScheduleFree)
    assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
