"""Exported forecasts equal the net's in the units of the data, also in int8, and for a series that has grown."""

from functools import partial
from itertools import product
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from src.data.csv_series import CSVSeriesDataModule
from src.deploy.agreement import Agreement
from src.deploy.exporting import export, split_loaders
from src.deploy.inference_net import torch_runner
from src.deploy.quantizer import Quantizer
from src.models.components.temporal_conv_net import TemporalConvNet
from src.models.forecast import Forecast
from src.predictor import Predictor, load

WINDOW, HORIZON, SEASON = 12, 6, 4
TOLERANCE = {"fp32": 1e-3, "int8": 0.1}  # of a forecast, in standard deviations of its window
# both kinds of simple forecast that a net adds to; all combinations in `make test-slow`
FAST = {("last", "openvino", "int8"), ("season", "onnx", "int8"), ("last", "onnx", "fp32"), ("season", "torch", "fp32")}
CASES = [
    pytest.param(*case, marks=() if case in FAST else pytest.mark.slow)
    for case in product(("last", "season"), ("openvino", "onnx", "torch"), TOLERANCE)
]


def values(steps: int) -> np.ndarray:
    """A column (steps,) with a season, a trend and noise, in units in which it is far from 0."""
    time = np.arange(steps)
    season = np.array([0.0, 10.0, 25.0, 5.0])[time % SEASON]
    return 500 + 0.7 * time + season + np.random.default_rng(0).standard_normal(steps)


def write(path: Path, column: np.ndarray) -> Path:
    path.write_text("load\n" + "".join(f"{value:.4f}\n" for value in column))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CSVSeriesDataModule:
    path = write(tmp_path_factory.mktemp("data") / "series.csv", values(200))
    sizes = {"features": 1, "window": WINDOW, "horizon": HORIZON, "season": SEASON, "val_size": 30, "test_size": 30}
    return CSVSeriesDataModule(str(path), batch_size=16, **sizes)


def trained(data: CSVSeriesDataModule, residual: str) -> Forecast:
    """Train a small net on the series."""
    torch.manual_seed(0)
    net = TemporalConvNet(num_classes=HORIZON, length=WINDOW, in_features=1, channels=8, depth=2)
    shape = {"horizon": HORIZON, "season": SEASON, "residual": residual}
    optimizer = partial(torch.optim.AdamW, lr=0.01)
    model = Forecast(net, optimizer, None, (WINDOW, 1), **shape, loss="mae", score="mase", mode="min")
    parts = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    L.Trainer(max_epochs=10, accelerator="cpu", **dict.fromkeys(parts, False)).fit(model, datamodule=data)
    return model.eval()


def forecasts(predictor: Predictor, path: Path) -> np.ndarray:
    """Return the prediction for a file, in the units of the data."""
    (row,) = predictor.predict([path])
    return np.array(row["forecast"])


@pytest.mark.parametrize(("residual", "format", "precision"), CASES)
def test_an_export_forecasts_as_the_net_in_the_units_of_the_data_at_any_level(
    residual: str, format: str, precision: str, data: CSVSeriesDataModule, tmp_path: Path
) -> None:
    task, card, folder = trained(data, residual), data.input_card(), tmp_path / "model"
    if precision == "int8":
        done = Quantizer(format=format, max_drop=100, calibration_images=60)(task, card, split_loaders(data), folder)
        assert done.layers and done.test.score == "mase"
    else:
        export(task, card, data.test_dataloader, folder, format, precision, max_drop=0)
    exported = load(folder, trusted=True)
    net = Predictor(task.card(card), torch_runner(task.net, ["forecast"]))
    column = values(WINDOW)
    for scale, level in ((1, 0), (20, 3000)):  # as it was in training, and far outside of its range
        path = write(tmp_path / "series.csv", scale * column + level)
        wanted, found = forecasts(net, path), forecasts(exported, path)
        assert wanted.shape == (HORIZON,) and wanted.min() > 400
        assert np.abs(found - wanted).max() < TOLERANCE[precision] * scale * column.std()


def test_sensitive_layers_of_a_series_net_can_stay_in_float32(
    data: CSVSeriesDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an attempt costs too much, others are tried: one-dimensional convolutions are layers, too."""
    monkeypatch.setattr(Agreement, "drop", property(lambda self: 2.0))
    quantizer = Quantizer(max_drop=1, calibration_images=60)
    done = quantizer(trained(data, "last"), data.input_card(), split_loaders(data), tmp_path / "model")
    assert done.attempts[0].startswith("all layers")
    assert done.attempts[1].startswith("2 layers in float32 (net.blocks.0.conv1.conv, net.head)")
