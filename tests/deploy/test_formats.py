"""Every family in every format: exported models run with batches of any size, and agree with the net."""

import copy
import json
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.deploy import exporting
from src.deploy.agreement import Agreement, agreement, check
from src.deploy.exporting import Limited, check_replaceable, export, staged
from src.deploy.formats import PRECISIONS, check_choices, check_format, load_format
from src.deploy.inference_net import inference_copy, torch_runner
from src.models.multihead_classifier import MultiheadClassifier
from src.models.task import Task
from src.predictor import CARD, load
from src.system.json_files import write_json
from tests.deploy.conftest import AUTOENCODER, BOTTLENECK, FAMILIES, MULTIHEAD, WHOLE, several_heads, task

KINDS = [
    (name, precision) for name, precisions in PRECISIONS.items() for precision in precisions if precision != "int8"
]
# in bfloat16 convolutions, attention, several heads and an image at each commit, all nets in `make test-slow`
IN_BF16 = ("mnist_cnn_8k", "mnist_vit_38k", MULTIHEAD, AUTOENCODER)
CASES = [
    pytest.param(name, *kind, marks=() if kind[1] == "fp32" or name in IN_BF16 else pytest.mark.slow)
    for name in (*FAMILIES, MULTIHEAD, AUTOENCODER, BOTTLENECK)
    for kind in KINDS
]
CASES += [pytest.param(*name.values, *kind, marks=name.marks) for name in WHOLE for kind in KINDS]


@pytest.fixture(scope="module")
def folded() -> Callable[..., nn.Module]:
    """Make inference copies, the same ones in all formats, once for the tests of a net."""
    former: dict[str, nn.Module] = {}

    def folded_(name: str, net: nn.Module, shape: Sequence[int]) -> nn.Module:
        if name not in former:
            former.clear()
            former[name] = inference_copy(net, shape)
        return copy.deepcopy(former[name])

    return folded_


@pytest.mark.parametrize(("name", "format", "precision"), CASES)
def test_an_exported_net_agrees_with_the_net(
    name: str,
    format: str,
    precision: str,
    make_task: Callable[[str], Task],
    card: dict[str, Any],
    batches: dict[str, Callable[[], Any]],
    folded: Callable[..., nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images = make_task(name), list(batches["test"]())
    monkeypatch.setattr(exporting, "inference_copy", partial(folded, name))
    if name == MULTIHEAD:
        card, images = several_heads(card, images)
    found = export(model, card, lambda: images, tmp_path / "model", format, precision, max_drop=100)
    assert (found.images, found.score) == (160, model.score)
    if precision == "fp32":
        assert found.max_difference <= 1e-4 * max(1, found.largest_output)
        assert found.value == pytest.approx(found.reference_value, rel=1e-4)
    assert (found.equal is None) == (name in (AUTOENCODER, BOTTLENECK))
    assert found.equal is None or found.equal >= (1 if precision == "fp32" else 0.8)
    predictor = load(tmp_path / "model", trusted=True)
    names = list(model.card(card)["outputs"])
    reference = torch_runner(model.net, names)
    for size in (1, 3):  # tracers tend to treat a batch size of one as a constant
        inputs = np.random.default_rng(size).standard_normal((size, 1, 28, 28), np.float32)
        ours, theirs = predictor.run(inputs), reference(inputs)
        assert list(ours) == list(theirs) == names
        for output in ours:
            assert ours[output].shape == theirs[output].shape
            assert np.abs(ours[output] - theirs[output]).max() < (1e-3 if precision == "fp32" else 1.0)
    content = json.loads((tmp_path / "model" / CARD).read_text())
    assert content["score"] == model.score and content[f"test_{model.score}"] == found.value
    assert content[f"test_{model.score}_net"] == found.reference_value
    assert content["test_images"] == 160 and content["precision"] == precision and content["format"] == format
    assert {path.name for path in (tmp_path / "model").iterdir()} == {*content["files"], CARD, "predict.py"}


def test_a_net_that_is_not_what_was_written_is_noticed_and_nothing_stays(
    make_net: Callable[[str], nn.Module],
    card: dict[str, Any],
    batches: dict[str, Callable[[], Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, other = task(make_net("mnist_sdn_8k")), make_net("mnist_sdn_8k")
    with torch.no_grad():
        other.head.weight += 0.01
    former = tmp_path / "model"
    write_export(former, "model.kept")
    monkeypatch.setattr(exporting, "inference_copy", lambda *_: other)
    with pytest.raises(ValueError, match=r"torch fp32\) disagrees with the net: outputs differ by up to"):
        export(model, card, batches["test"], former, "torch", "fp32", max_drop=1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"] and (former / "model.kept").exists()
    monkeypatch.undo()
    export(model, card, batches["test"], former, "torch", "fp32", max_drop=1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"] and not (former / "model.kept").exists()


class TwoHeads(nn.Module):
    """A net of which only the names of the heads and outputs matter."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.ModuleDict({"a": nn.Identity(), "b": nn.Identity()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: head(x.flatten(1)) for name, head in self.head.items()}


def test_agreement_counts_predictions_ties_and_accuracy_over_all_heads() -> None:
    truth = torch.tensor([[0, 1], [1, 1], [2, 0]])  # two heads
    theirs = {"a": np.eye(3, dtype=np.float32), "b": np.float32([[0, 1], [0, 1], [0, 1e-6]])}
    ours = {"a": np.eye(3, dtype=np.float32)[[0, 1, 1]], "b": np.float32([[0, 1], [0, 1], [1e-6, 0]])}
    weights = {"a": 1.0, "b": 1.0}
    options = {"loss_weights": weights, "score": "acc", "mode": "max"}
    model = MultiheadClassifier(TwoHeads(), torch.optim.AdamW, None, nn.CrossEntropyLoss(), (1, 2, 2), **options)
    outputs = {"a": {"kind": "classes"}, "b": {"kind": "classes"}}
    batches = [(torch.zeros(3, 1, 2, 2), truth)]
    found = agreement(lambda _: ours, lambda _: theirs, batches, model, outputs)
    assert (found.images, found.largest_output, found.max_difference) == (3, 1, 1)
    assert found.equal == pytest.approx(4 / 6) and found.unequal_beyond_ties == 1  # the other is a tie
    assert found.reference_value == pytest.approx(5 / 6) and found.value == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="no images"):
        agreement(lambda _: ours, lambda _: theirs, [], model, outputs)


def test_agreement_of_images_is_the_difference_of_their_pixels_and_of_the_tasks_own_score(
    make_task: Callable[[str], Task], batches: dict[str, Callable[[], Any]]
) -> None:
    model, outputs = make_task(AUTOENCODER), {"image": {"kind": "image"}}
    worse = {"image": lambda images: images + 0.5, "net": lambda images: images - 0.25}
    ours, theirs = (lambda images, f=f: {"image": f(images)} for f in worse.values())
    found = agreement(ours, theirs, batches["test"](), model, outputs)
    assert (found.images, found.score, found.mode, found.equal) == (160, "mse", "min", None)
    assert found.value == pytest.approx(0.25) and found.reference_value == pytest.approx(0.0625)
    assert found.max_difference == pytest.approx(0.75) and found.drop == pytest.approx(300)
    assert found.described_drop == "300.00 % in mse" and found.described_change == "+300.00 % in mse"
    with pytest.raises(
        ValueError, match=r"x\) disagrees with the net: outputs differ by up to 0\.75 \(allowed: .*\)\.$"
    ):
        check(found, "x", "fp32", max_drop=1000)
    with pytest.raises(ValueError, match=r"worse than the net by 300\.00 % in mse .*: 0\.0625 became 0\.2500"):
        check(found, "x", "int8", max_drop=299)
    check(found, "x", "int8", max_drop=301)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_agree_with_nothing(
    value: float, make_task: Callable[[str], Task], batches: dict[str, Callable[[], Any]]
) -> None:
    def sound(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"class": np.zeros((len(images), 10), np.float32)}

    def unsound(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"class": np.where(np.eye(len(images), 10), value, sound(images)["class"]).astype(np.float32)}

    options = (batches["test"](), make_task("mnist_sdn_8k"), {"class": {"kind": "classes"}})
    for examined, reference, name in (
        (unsound, sound, "exported model"),
        (sound, unsound, "net"),
        (unsound, unsound, "net"),
    ):
        with pytest.raises(ValueError, match=rf"^The {name}'s output class is not finite, but {value} for some"):
            agreement(examined, reference, *options)
    assert agreement(sound, sound, *options).max_difference == 0


def test_a_drop_is_in_points_of_what_is_maximised_and_in_percent_of_what_is_minimised() -> None:
    def drop(mode: str, value: float, reference: float) -> float:
        return Agreement(10, "score", mode, value, reference, 0.0, 1.0, None, 0).drop

    assert drop("max", 0.90, 0.93) == pytest.approx(3) and drop("max", 0.93, 0.90) == pytest.approx(-3)
    assert drop("min", 0.22, 0.20) == pytest.approx(10) and drop("min", 0.18, 0.20) == pytest.approx(-10)
    assert drop("min", -0.18, -0.20) == pytest.approx(10)
    assert drop("min", 0.0, 0.0) == 0 and drop("min", 0.1, 0.0) == float("inf")


def test_a_loss_of_accuracy_beyond_what_is_allowed_is_an_error() -> None:
    found = Agreement(1000, "acc", "max", 0.90, 0.93, 0.5, 10, 0.9, 30)
    with pytest.raises(
        ValueError, match=r"worse than the net by 3\.00 points in acc on 1000 test images, more than max_drop=2"
    ):
        check(found, "onnx int8", "int8", max_drop=2)
    check(found, "onnx int8", "int8", max_drop=3.01)
    with pytest.raises(ValueError, match="by nan points"):
        check(Agreement(1, "acc", "max", float("nan"), 1, 0, 1, 1, 0), "x", "bf16", max_drop=1)


class Exotic(nn.Module):
    """Uses an operator that neither ONNX nor OpenVINO knows."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.special.i1(x.flatten(1)))


@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_an_operator_that_a_format_has_not_is_named(
    format: str, card: dict[str, Any], batches: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    level = logging.getLogger().level
    with pytest.raises(ValueError, match=r"The net cannot be exported to \w+: No .* found for .*_i1") as caught:
        export(task(Exotic()), card, batches["test"], tmp_path / "model", format, "fp32", max_drop=1)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    assert logging.getLogger().level == level and logging.getLogger("src").isEnabledFor(logging.WARNING)
    export(task(Exotic()), card, batches["test"], tmp_path / "model", "torch", "fp32", max_drop=1)


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_layers_that_are_kept_are_not_counted(format: str, mode: str, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 10))
    writer = load_format(format, "int8")
    images = torch.randn(16, 1, 28, 28)
    for keep, wanted in (((), ["1", "3", "5"]), (("1",), ["3", "5"]), (("3", "5"), ["1"]), (("1", "3", "5"), [])):
        (tmp_path / str(len(keep))).mkdir(exist_ok=True)
        assert writer.write_int8(net, (1, 28, 28), tmp_path / str(len(keep)), mode, images, keep) == wanted


def test_a_padded_convolution_can_be_exported(
    card: dict[str, Any], batches: dict[str, Callable[[], Any]], tmp_path: Path
) -> None:
    layers = (nn.Conv2d(1, 3, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 784, 10))
    for format in ("openvino", "onnx", "torch"):
        export(task(nn.Sequential(*layers)), card, batches["test"], tmp_path / format, format, "fp32", max_drop=0)


def test_two_exports_to_one_folder_do_not_meet(tmp_path: Path) -> None:
    with staged(tmp_path / "model") as first, staged(tmp_path / "model") as second:
        write_export(first, "model.a")
        write_export(second, "model.b")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert {path.name for path in (tmp_path / "model").iterdir()} == {CARD, "model.a"}  # the one that ended last
    with pytest.raises(RuntimeError), staged(tmp_path / "model"):
        raise RuntimeError("a kill, say")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {CARD, "model.a"}


FOREIGN = {
    "a file beside an export": lambda folder: (folder / "notes.txt").touch(),
    "a model of another program": lambda folder: (folder / CARD).write_text('{"class_name": "Sequential"}'),
    "no card": lambda folder: (folder / CARD).unlink(),
    "a damaged card": lambda folder: (folder / CARD).write_text("{"),
    "a card that claims what no export writes": lambda folder: claim(folder, "thesis.tex"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_no_export_has_written_is_not_replaced(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_export(folder, "model.a")
    check_replaceable(folder)
    FOREIGN[name](folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"model holds .*, which no export has written, so it is not"), staged(folder):
        pass
    assert {path: path.read_bytes() for path in folder.iterdir()} == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_put_into_a_folder_during_an_export_is_not_lost(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_export(folder, "model.a")
    with pytest.raises(ValueError, match=r"model holds .*, which no export has written"), staged(folder) as stage:
        write_export(stage, "model.b")
        FOREIGN[name](folder)
        before = {path: path.read_bytes() for path in folder.iterdir()}
    assert {path: path.read_bytes() for path in folder.iterdir()} == before and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_becomes_a_link_during_an_export_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="link"), staged(tmp_path / "model") as stage:
        write_export(stage, "model.b")
        (tmp_path / "model").symlink_to("other")
    assert (tmp_path / "model").is_symlink() and not list((tmp_path / "other").iterdir())


def test_new_and_empty_folders_are_taken_and_links_and_files_are_not(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty")
    (tmp_path / "link").symlink_to("empty")
    with pytest.raises(ValueError, match="link is a symbolic link: "):
        check_replaceable(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file: name another folder"):
        check_replaceable(tmp_path / "file")


def write_export(folder: Path, *files: str) -> None:
    """Write the files that identify a folder as an export."""
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).touch()
    write_json(folder / CARD, {"card_version": 1, "files": dict.fromkeys(files, "")})


def claim(folder: Path, file: str) -> None:
    (folder / file).touch()
    write_json(folder / CARD, {"card_version": 1, "files": {file: ""}})


def test_limits_are_lightnings(batches: dict[str, Callable[[], Any]]) -> None:
    loader = batches["test"]()  # of 5 batches
    for limit, count in ((1.0, 5), (0.5, 2), (0.3, 1), (2, 2), (9, 5), (0, 0), (1, 1)):
        assert len(Limited(loader, limit)) == len(list(Limited(loader, limit))) == count


def test_choices_are_checked_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    check_choices(["onnx", "torch"], ["fp32", "int8"])
    for formats, precisions, words in (
        (["tflite"], ["fp32"], "format=tflite must be one of openvino, onnx, torch"),
        (["onnx"], ["int4"], "precision=int4 must be one of fp32, bf16, int8"),
        (["onnx"], ["bf16"], "format=onnx has no bf16; it has fp32, int8"),
        ("onnx", ["fp32"], r"formats=onnx must be a list, such as formats=\[onnx\]"),
        (["onnx"], [], "must be a list"),
    ):
        with pytest.raises(ValueError, match=words):
            check_choices(formats, precisions)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"format=openvino needs openvino, nncf.*pip install -e '.\[deploy\]'"
    ):
        check_format("openvino", "int8")
    check_format("torch", "fp32")


def test_openvinos_reporter_is_never_imported() -> None:
    load  # noqa: B018  # has been used above, as have the writers
    assert sys.modules.get("openvino_telemetry") is None
