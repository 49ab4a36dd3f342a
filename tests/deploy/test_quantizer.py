"""Every family in every mode: the layers that compute in int8, and those kept in float32 if the score drops."""

import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.data.synthetic import SyntheticDataModule
from src.deploy import openvino_format
from src.deploy.exporting import Limited
from src.deploy.quantizer import MODES, Quantizer
from src.models.components.simple_mlp import SimpleMLP
from src.models.task import Task
from src.predictor import CARD, load
from tests.deploy.conftest import AUTOENCODER, FAMILIES, MULTIHEAD, WHOLE, learn, several_heads, task

# layers that stay in float32 in this small net: squeeze-and-excitation
LEFT = re.compile(r"blocks\.\d\.layers\.\d\.fc[12]")


def layer_kinds(net: nn.Module) -> tuple[list[str], list[str]]:
    """The names of a net's convolutions and of its dense layers."""
    named = list(net.named_modules())
    return [n for n, m in named if isinstance(m, nn.Conv2d)], [n for n, m in named if isinstance(m, nn.Linear)]


# static quantisation of all families at each commit, the other modes of three kinds, all of them in `make test-slow`
IN_ALL_MODES = ("mnist_cnn_8k", "mnist_vit_38k", "mnist_efficientnet_22k")
CASES = [
    pytest.param(name, mode, marks=() if mode == "static" or name in IN_ALL_MODES else pytest.mark.slow)
    for name in FAMILIES
    for mode in MODES
]
CASES += [pytest.param(*name.values, mode, marks=name.marks) for name in WHOLE for mode in MODES]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_every_layer_of_every_family_computes_in_int8(
    name: str,
    mode: str,
    make_task: Callable[[str], Task],
    card: dict[str, Any],
    batches: dict[str, Callable[[], Any]],
    tmp_path: Path,
) -> None:
    model = make_task(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    short = {split: lambda make=make: Limited(make(), 2) for split, make in batches.items()}
    quantized = Quantizer(mode, max_drop=100, calibration_images=48)(model, card, short, tmp_path / "int8")
    convolutions, dense = layer_kinds(model.net)
    wanted = dense if mode == "dynamic" else [name for name in (*convolutions, *dense) if not LEFT.fullmatch(name)]
    assert sorted(quantized.layers) == sorted(wanted)
    assert sorted(quantized.all_layers) == sorted([*convolutions, *dense])
    assert quantized.test.images == 64 and quantized.kept == [] and len(quantized.attempts) == 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    content = json.loads((tmp_path / "int8" / CARD).read_text())
    assert content["quantization"] == mode and content["int8_layers"] == quantized.layers
    assert content[f"test_{model.score}"] == quantized.test.value and content["mode"] == "L"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "int8"))] == ["int8"]


# a net of each kind in both formats or modes at each commit, all combinations in `make test-slow`
OTHERS = ("mnist_cnn_8k", "mnist_convnext_18k", "mnist_efficientnet_22k", "mnist_vit_38k", "mnist_hybrid_210k")
FAST = {("mnist_cnn_8k", format, mode) for format in ("torch", "onnx") for mode in ("static", "dynamic")}
FAST |= {("mnist_convnext_18k", "torch", "static"), ("mnist_convnext_18k", "onnx", "dynamic")}
FAST |= {("mnist_efficientnet_22k", "torch", "static"), ("mnist_efficientnet_22k", "onnx", "static")}
FAST |= {("mnist_vit_38k", "torch", "dynamic"), ("mnist_vit_38k", "onnx", "static")}
OTHER_CASES = [
    pytest.param(*case, marks=() if case in FAST else pytest.mark.slow)
    for case in product(OTHERS, ("torch", "onnx"), ("static", "dynamic"))
]


@pytest.mark.parametrize(("name", "format", "mode"), OTHER_CASES)
def test_other_formats_say_which_layers_they_leave(
    name: str,
    format: str,
    mode: str,
    make_net: Callable[[str], nn.Module],
    card: dict[str, Any],
    batches: dict[str, Callable[[], Any]],
    tmp_path: Path,
) -> None:
    model = task(make_net(name))
    quantized = Quantizer(mode, format, max_drop=100, calibration_images=48)(model, card, batches, tmp_path / "int8")
    convolutions, dense = layer_kinds(model.net)
    assert set(dense) <= set(quantized.layers) or format == "onnx"
    assert quantized.layers and set(quantized.layers) <= {*dense, *([] if mode == "dynamic" else convolutions)}
    left = quantized.in_float32
    assert not left or all(name in quantized.remarks(100)[1] for name in left)
    if (mode, format) == ("static", "torch"):
        assert len(left) == sum(model.net.get_submodule(n).groups > 1 for n in convolutions if n in left)
    predictor = load(tmp_path / "int8", trusted=True)
    images = next(iter(batches["test"]()))[0].numpy()
    assert predictor.run(images)["class"].shape == (len(images), 10)


@pytest.mark.parametrize(
    ("format", "mode"), [("openvino", "static"), ("openvino", "qat"), ("onnx", "static"), ("torch", "static")]
)
def test_a_net_without_classes_is_quantised_and_verified_by_its_own_score(
    format: str,
    mode: str,
    make_task: Callable[[str], Task],
    card: dict[str, Any],
    batches: dict[str, Callable[[], Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = make_task(AUTOENCODER)
    quantizer = Quantizer(mode, format, max_drop=1e9, calibration_images=48)
    quantized = quantizer(model, card, batches, tmp_path / "int8", strict=True)
    convolutions, _ = layer_kinds(model.net)
    assert sorted(quantized.layers) == sorted(convolutions) and len(quantized.attempts) == 1
    assert re.fullmatch(r"all layers: [+-]\d+\.\d\d % in mse on 160 validation images", quantized.attempts[0])
    test = quantized.test
    assert (test.score, test.mode, test.equal, test.images) == ("mse", "min", None, 160) and test.max_difference > 0
    content = json.loads((tmp_path / "int8" / CARD).read_text())
    assert content["outputs"] == {"image": {"kind": "image"}} and content["test_mse"] == test.value > 0
    assert "equal_predictions" not in content
    images = next(iter(batches["test"]()))[0].numpy()
    assert load(tmp_path / "int8", trusted=True).run(images)["image"].shape == images.shape


def test_where_an_error_rises_layers_stay_in_float32(
    make_task: Callable[[str], Task], card: dict[str, Any], batches: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    """For a net that returns its input almost exactly, rounding is most of the error: hundreds of percent."""
    model = make_task(AUTOENCODER)
    model.net = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(3)))
    with torch.no_grad():
        for layer in model.net:
            layer.weight.fill_(0.999)
            layer.bias.zero_()
    quantized = Quantizer(max_drop=100, calibration_images=48)(model, card, batches, tmp_path / "int8")
    changes = [float(attempt.split(": ")[1].split(" %")[0]) for attempt in quantized.attempts]
    assert len(changes) > 1 and changes[0] > 100 and changes[-1] < changes[0]
    assert set(quantized.kept) >= {"0", "2"} and "0 (for mse)" in quantized.remarks(100)[1]
    assert quantized.test.drop == pytest.approx(changes[-1], rel=0.5)  # of other images
    assert (
        "is worse than the net by " in quantized.remarks(0.0)[-1]
        and " % in mse on the test" in quantized.remarks(0)[-1]
    )


def test_several_heads_are_quantised_together(
    make_task: Callable[[str], Task], card: dict[str, Any], batches: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    many = {split: lambda make=make: several_heads(card, make())[1] for split, make in batches.items()}
    named, _ = several_heads(card, [])
    quantized = Quantizer(max_drop=100, calibration_images=48)(make_task(MULTIHEAD), named, many, tmp_path / "int8")
    assert len(quantized.layers) == 6 and quantized.test.images == 160
    assert list(load(tmp_path / "int8").card["outputs"]) == ["digit", "thickness", "smoothness"]


def test_a_net_that_has_learnt_is_as_good_in_int8(
    data: SyntheticDataModule,
    card: dict[str, Any],
    batches: dict[str, Callable[[], Any]],
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    net = SimpleMLP(in_channels=1, image_size=28, num_classes=10, hidden_sizes=(32,), dropout=0.0)
    model = learn(net, data, epochs=3, lr=1e-3)
    quantized = Quantizer(max_drop=2.0, calibration_images=64)(model, card, batches, tmp_path / "int8")
    assert quantized.test.reference_value > 0.9 and quantized.test.drop <= 2
    assert quantized.test.max_difference > 0  # the measured model is not the float32 net


class Fragile(nn.Module):
    """A net whose middle layer is ruined by rounding: a large constant among its inputs leaves no levels for others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(784, 785)
        self.body = SimpleMLP(in_channels=1, image_size=28, num_classes=10, hidden_sizes=(24, 24, 24), dropout=0.0)
        self.fragile = nn.Linear(785, 784)
        self.head = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fragile(self.stem(x.flatten(1)))
        return self.head(self.body(x.unflatten(1, (1, 28, 28))))


@pytest.fixture
def fragile(data: SyntheticDataModule) -> Any:
    torch.manual_seed(0)
    net = Fragile()
    with torch.no_grad():
        net.stem.weight.copy_(torch.eye(785, 784))
        net.fragile.weight.copy_(torch.eye(784, 785))
        net.head.weight.copy_(torch.eye(10))
        for layer in (net.stem, net.fragile, net.head):
            layer.bias.zero_()
            layer.requires_grad_(False)
        net.stem.bias[-1] = 20000
    return learn(net, data, epochs=3)


def test_where_accuracy_falls_sensitive_layers_stay_in_float32_and_it_is_said(
    fragile: Any, card: dict[str, Any], batches: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    quantized = Quantizer(max_drop=1.0, calibration_images=64)(fragile, card, batches, tmp_path / "int8")
    assert "fragile" in quantized.kept and {"stem", "head"} <= set(quantized.kept)
    assert 0 < len(quantized.layers) == len(quantized.all_layers) - len(quantized.kept)
    assert quantized.test.reference_value > 0.9 and quantized.test.drop <= 1
    assert len(quantized.attempts) == 3 and quantized.attempts[0].startswith("all layers: -")
    remarks = "\n".join(quantized.remarks(1.0))
    assert "fragile (for acc)" in remarks and "tried: all layers: -" in remarks and "WARNING" not in remarks


def test_what_cannot_be_mended_is_reported_plainly(
    fragile: Any,
    card: dict[str, Any],
    batches: dict[str, Callable[[], Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("src.deploy.quantizer.by_sensitivity", lambda net, names, images: [*names][::-1])
    monkeypatch.setattr("src.deploy.quantizer.SHARES", (0.2,))
    quantized = Quantizer(max_drop=1.0, calibration_images=64)(fragile, card, batches, tmp_path / "int8")
    assert quantized.test.drop > 1
    drops = [float(attempt.split(": ")[1].split()[0]) for attempt in quantized.attempts]
    assert drops[-1] == max(drops)  # the best attempt was kept
    with pytest.raises(ValueError, match=r"\(openvino int8\) is worse .* points in acc on 160 test images"):
        Quantizer(max_drop=1.0, calibration_images=64)(fragile, card, batches, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()
    assert f"WARNING: the int8 model is worse than the net by {quantized.test.drop:.2f} points" in "\n".join(
        quantized.remarks(1.0)
    )


def test_quantising_nothing_is_an_error_and_leaves_nothing(
    make_task: Callable[[str], Task],
    make_net: Callable[[str], nn.Module],
    card: dict[str, Any],
    batches: dict[str, Callable[[], Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openvino_format, "computed_in_int8", lambda path: set())
    with pytest.raises(ValueError, match="openvino has quantised none of the 4 layers of SimpleDenseNet"):
        Quantizer()(task(make_net("mnist_sdn_8k")), card, batches, tmp_path / "int8")
    with pytest.raises(ValueError, match="onnx has quantised none of the 5 layers of ConvAutoencoder"):
        Quantizer("dynamic", "onnx")(make_task(AUTOENCODER), card, batches, tmp_path / "int8")
    assert not (tmp_path / "int8").exists()

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10]

    with pytest.raises(ValueError, match="Mean has neither convolutions nor dense layers"):
        Quantizer()(task(Mean()), card, batches, tmp_path / "int8")


def test_the_same_run_gives_the_same_int8_model(
    make_net: Callable[[str], nn.Module], card: dict[str, Any], batches: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    model = task(make_net("mnist_sdn_8k"))
    for name in ("a", "b"):
        Quantizer("qat", max_drop=100, calibration_images=48)(model, card, batches, tmp_path / name)
    first, second = (load(tmp_path / name).run(next(iter(batches["test"]()))[0].numpy()) for name in ("a", "b"))
    assert (first["class"] == second["class"]).all()


def test_wrong_options_are_refused() -> None:
    for options, words in (
        ({"mode": "int4"}, "mode=int4 must be one of static, dynamic, qat"),
        ({"format": "tflite"}, "format=tflite must be one of"),
        ({"max_drop": -1}, "max_drop=-1 must not be negative"),
        ({"calibration_images": 0}, "calibration_images=0 must be at least 1"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"lr": 0}, "lr=0 must be above 0"),
    ):
        with pytest.raises(ValueError, match=words):
            Quantizer(**options)
