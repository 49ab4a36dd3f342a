"""An int8 model at the end of a real run, with its metrics; the run's own model does not change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.deploy.quantization_callback import Quantization
from src.predictor import load
from src.train import train
from tests.conftest import TINY_RUN

RUN = (
    "model=mnist_cnn_8k",
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.train_size=400",
    *TINY_RUN,
)
QUANTISED = ("callbacks=[model_checkpoint,quantization]", "callbacks.quantization.calibration_images=32")
QUANTISED += ("callbacks.quantization.seconds=0.02", "callbacks.quantization.max_drop=100")
FIGURES = {f"{name}/{figure}" for name in ("fp32", "int8") for figure in ("acc", "size_mb", "latency_ms")}
FIGURES |= {"fp32/images_per_second", "int8/images_per_second", "int8/layers", "int8/layers_total"}


@pytest.mark.parametrize("mode", ["static", "dynamic", "qat"])
def test_a_run_ends_in_an_int8_model_and_its_figures(
    mode: str, compose: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose(*RUN, *QUANTISED, f"callbacks.quantization.mode={mode}", "logger=tensorboard")
    figures, objects = train(cfg)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert set(written) >= FIGURES and {name: figures[name] for name in FIGURES} == {n: written[n] for n in FIGURES}
    assert written["fp32/acc"] == pytest.approx(written["test/acc"])
    assert written["int8/size_mb"] > 0 and written["int8/images_per_second"] > 0
    assert (written["int8/layers"], written["int8/layers_total"]) == ((2, 4) if mode == "dynamic" else (4, 4))
    shown = capsys.readouterr().out
    assert "fp32" in shown and f"{int(written['int8/layers'])} of 4 layers compute in int8" in shown
    files = tmp_path.rglob("events.out.tfevents*")
    scalars = {tag for file in files for tag in EventAccumulator(str(file)).Reload().Tags()["scalars"]}
    assert scalars >= FIGURES
    best = torch.load(next((tmp_path / "checkpoints").glob("epoch_*.ckpt")), weights_only=True)
    net = {f"net.{key}": value for key, value in objects["model"].net.state_dict().items()}
    assert all(torch.equal(value, best["state_dict"][key]) for key, value in net.items())
    assert load(tmp_path / "int8").card["test_images"] == 32  # limited by limit_test_batches


@pytest.mark.parametrize("mode", ["static", "qat"])
def test_a_run_without_classes_ends_in_an_int8_model_too(
    mode: str, compose: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    autoencoder = ("model=mnist_autoencoder_5k", *RUN[1:])
    cfg = compose(*autoencoder, *QUANTISED, f"callbacks.quantization.mode={mode}", "logger=none")
    cfg.callbacks.quantization.max_drop = 1e9
    train(cfg)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics) >= {name.replace("/acc", "/mse") for name in FIGURES} and "int8/acc" not in metrics
    assert metrics["fp32/mse"] == pytest.approx(metrics["test/mse"], rel=1e-4)
    assert metrics["int8/mse"] > 0 and metrics["int8/layers"] == metrics["int8/layers_total"] == 5
    shown = capsys.readouterr().out
    assert "test mse" in shown and "5 of 5 layers compute in int8" in shown and "acc" not in shown
    card = load(tmp_path / "int8").card
    assert card["test_mse"] == pytest.approx(metrics["int8/mse"]) and card["outputs"] == {"image": {"kind": "image"}}


def test_training_itself_is_not_changed(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    weights = []
    for extra in (("callbacks=model_checkpoint",), QUANTISED):
        train(compose(*RUN, *extra, "logger=none"))
        checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        weights.append(checkpoint["state_dict"])
        shutil.rmtree(tmp_path / "checkpoints")
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_a_run_keeps_its_figures_where_quantising_fails(
    compose: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("src.deploy.openvino_format.computed_in_int8", lambda path: set())
    figures, _ = train(compose(*RUN, *QUANTISED, "logger=none"))
    assert "test/acc" in figures and "int8/acc" not in figures and not (tmp_path / "int8").exists()
    assert "There is no int8 model of this run: openvino has quantised none of the 4 layers" in caplog.text
    assert "has quantised none" in json.loads((tmp_path / "run.json").read_text())["quantization"]


def test_a_net_in_another_precision_is_quantised(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    figures, objects = train(compose(*RUN, *QUANTISED, "logger=none", "+trainer.precision=bf16-true"))
    assert figures["int8/layers"] == 4 and next(objects["model"].net.parameters()).dtype == torch.bfloat16


def test_mistakes_are_told_before_the_training(
    compose: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match="mode=int4 must be one of"):
        train(compose(*RUN, *QUANTISED, "callbacks.quantization.mode=int4", "logger=none"))
    with pytest.raises(ValueError, match="needs val images, and there are none"):
        cfg = compose(*RUN, *QUANTISED, "logger=none")
        cfg.data.val_size = 0
        train(cfg)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("mine")
    with pytest.raises(ValueError, match=r"docs holds index\.md, which no export has written, so it is not replaced"):
        train(compose(*RUN, *QUANTISED, f"callbacks.quantization.dirpath={tmp_path}/docs", "logger=none"))
    assert (tmp_path / "docs" / "index.md").read_text() == "mine"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"\[deploy\]"):
        Quantization(dirpath=str(tmp_path))
    assert not (tmp_path / "checkpoints").exists()
