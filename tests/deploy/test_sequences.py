"""Nets for series and tokens in every format: exported models run with batches of any size, and agree."""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.deploy.exporting import export
from src.deploy.formats import PRECISIONS
from src.deploy.inference_net import torch_runner
from src.deploy.quantizer import Quantizer
from src.deploy.speed import compare_speeds
from src.models.classifier import Classifier
from src.models.components.recurrent_net import RecurrentNet
from src.models.components.sequence_transformer import SequenceTransformer
from src.models.components.temporal_conv_net import TemporalConvNet
from src.predictor import input_shape, load, read_card

HEADS = {"heads": {"class": ["a", "b", "c"]}}
CARDS: dict[str, dict[str, Any]] = {
    "series": {"input": "series", "length": 7, "features": 3, "mean": [0.0] * 3, "std": [1.0] * 3, **HEADS},
    "tokens": {"input": "tokens", "length": 9, "vocabulary_size": 257, **HEADS},
}
FACTS: dict[str, dict[str, Any]] = {
    "series": {"in_features": 3, "length": 7, "num_classes": 3},
    "tokens": {"vocabulary_size": 257, "length": 9, "num_classes": 3},
}
NETS: dict[str, Callable[..., nn.Module]] = {
    "lstm": partial(RecurrentNet, hidden_size=16, bidirectional=True),
    "gru": partial(RecurrentNet, cell="gru", hidden_size=16),
    "transformer": partial(SequenceTransformer, embed_dim=16, depth=1),
    "convolutions": partial(TemporalConvNet, channels=16, depth=2),
}
# at each commit one kind of inputs for each net, bfloat16 for two nets, and int8 in two formats for each; all in
# `make test-slow`
FAST = {("lstm", "tokens"), ("gru", "series"), ("transformer", "tokens"), ("convolutions", "series")}
FAST_FORMATS = {
    "fp32": dict.fromkeys(NETS, ("openvino", "onnx", "torch")),
    "bf16": dict.fromkeys(("gru", "transformer"), ("openvino", "torch")),
    "int8": {
        "lstm": ("openvino", "torch"),
        "gru": ("openvino", "onnx"),
        "transformer": ("onnx", "torch"),
        "convolutions": ("openvino", "onnx"),
    },
}
CASES = [
    pytest.param(
        *(net, kind, format, precision),
        marks=() if (net, kind) in FAST and format in FAST_FORMATS[precision].get(net, ()) else pytest.mark.slow,
    )
    for net, kind in product(NETS, CARDS)
    for format, precisions in PRECISIONS.items()
    for precision in precisions
]


def make_task(net: str, kind: str) -> Classifier:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=1e-3)
    shape = input_shape(CARDS[kind])
    built = NETS[net](**FACTS[kind]).eval()
    return Classifier(built, optimizer, None, nn.CrossEntropyLoss(), shape, score="acc", mode="max")


def make_batches(kind: str) -> list[tuple[Tensor, Tensor]]:
    """Batches of inputs and labels that can be predicted; those of tokens differ in their lengths."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for steps in (4, 9, 6):
        labels = torch.randint(3, (20,), generator=generator)
        if kind == "series":
            inputs = torch.rand(20, 7, 3, generator=generator) + nn.functional.one_hot(labels, 3).unsqueeze(1)
        else:
            inputs = torch.randint(1, 86, (20, steps), generator=generator) + 85 * labels.unsqueeze(1)
            inputs *= torch.arange(steps) < torch.randint(3, steps + 1, (20, 1), generator=generator)
        batches.append((inputs, labels))
    return batches


def fit(model: Classifier, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Train until the outputs have a scale to measure errors by."""
    optimizer = torch.optim.AdamW(model.net.parameters(), lr=0.01)
    for inputs, labels in batches * 20:
        loss = nn.functional.cross_entropy(model.net.train()(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize(("net", "kind", "format", "precision"), CASES)
def test_an_exported_net_agrees_with_the_net(net: str, kind: str, format: str, precision: str, tmp_path: Path) -> None:
    model, card, batches = make_task(net, kind), CARDS[kind], make_batches(kind)
    if precision != "fp32":
        fit(model, batches)
    if precision == "int8":
        quantizer = Quantizer(format=format, max_drop=100, calibration_images=40)
        done = quantizer(
            model, card, {split: lambda: batches for split in ("train", "val", "test")}, tmp_path / "model"
        )
        assert done.layers and not done.kept and done.test.images == 60
    else:
        found = export(model, card, lambda: batches, tmp_path / "model", format, precision, max_drop=100)
        assert found.images == 60
    predictor, reference = load(tmp_path / "model", trusted=True), torch_runner(model.net, ["class"])
    assert {**read_card(tmp_path / "model"), **HEADS, **card}.items() >= card.items()
    inputs = nn.functional.pad(batches[0][0], (0, 5)) if kind == "tokens" else batches[0][0]
    tolerance = 1e-5 if precision == "fp32" else 0.06 * np.ptp(reference(inputs.numpy())["class"])
    for size in (1, 3, 20):
        ours, theirs = predictor.run(inputs[:size].numpy())["class"], reference(inputs[:size].numpy())["class"]
        assert ours.shape == theirs.shape == (size, 3)
        assert np.abs(ours - theirs).max() < tolerance


@pytest.mark.parametrize("kind", CARDS)
def test_speeds_are_measured_on_inputs_of_the_kind(kind: str, tmp_path: Path) -> None:
    model = make_task("gru", kind)
    export(model, CARDS[kind], lambda: make_batches(kind), tmp_path / "model", "onnx", "fp32", max_drop=100)
    speeds = compare_speeds(model.net, {"onnx": tmp_path / "model"}, input_shape(CARDS[kind]), 0.01, compiled=False)
    assert set(speeds) == {"fp32", "onnx"} and all(value > 0 for row in speeds.values() for value in row.values())
