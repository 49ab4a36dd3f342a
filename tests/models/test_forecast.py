"""Forecasts: their base, their metrics, and their pictures."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from src.callbacks.pictures import as_pictures
from src.data.csv_series import CSVSeriesDataModule
from src.data.synthetic import SyntheticDataModule
from src.models.components.temporal_conv_net import TemporalConvNet
from src.models.forecast import MAX_PANELS, NAIVE, Forecast, seasonal_naive

SIZES: dict[str, Any] = {"features": 1, "window": 12, "horizon": 6, "season": 4, "val_size": 30, "test_size": 30}


class Constant(nn.Module):
    """Maps any windows to the same numbers."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor(numbers))

    def forward(self, windows: Tensor) -> Tensor:
        return self.numbers.expand(len(windows), -1)


def task(net: nn.Module | None = None, features: int = 1, **options: Any) -> Forecast:
    net = Constant(*[0.0] * 6 * features) if net is None else net
    settings = {"horizon": 6, "season": 4, "residual": "none", "loss": "mse", "score": "mase", "mode": "min", **options}
    return Forecast(net, partial(torch.optim.AdamW, lr=0.01), None, (12, features), **settings)


@pytest.mark.parametrize("horizon", [1, 4, 6, 13])
def test_the_seasonal_naive_forecast_repeats_the_last_season(horizon: int) -> None:
    windows = torch.randn(3, 12, 2)
    expected = torch.stack([windows[:, 8 + step % 4] for step in range(horizon)], dim=1)
    assert torch.equal(seasonal_naive(windows, horizon, 4), expected)
    assert torch.equal(seasonal_naive(windows, horizon, 1), windows[:, -1:].expand(-1, horizon, -1))


def test_a_net_that_says_nothing_leaves_the_forecast_that_it_is_added_to() -> None:
    windows = torch.randn(5, 12, 2)
    assert not task(features=2, residual="none").net(windows).any()
    assert torch.equal(task(features=2, residual="last").net(windows), windows[:, -1:].expand(-1, 6, -1))
    assert torch.equal(task(features=2, residual="season").net(windows), seasonal_naive(windows, 6, 4))


@pytest.mark.parametrize("residual", ["none", "last", "season"])
def test_steps_are_cut_from_the_nets_numbers_one_after_the_other(residual: str) -> None:
    numbers = [float(number) for number in range(12)]
    windows = torch.randn(5, 12, 2)
    found = task(Constant(*numbers), features=2, residual=residual).net(windows)
    added = found - task(features=2, residual=residual).net(windows)
    spread = torch.ones(5, 1, 2) if residual == "none" else windows.std(dim=1, keepdim=True, correction=0)
    torch.testing.assert_close(added, torch.tensor(numbers).view(1, 6, 2) * spread, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("residual", ["last", "season"])
def test_a_series_of_another_level_and_spread_has_the_same_forecast_there(residual: str) -> None:
    model = task(TemporalConvNet(num_classes=12, length=12, in_features=2, channels=8, depth=2), 2, residual=residual)
    windows = torch.randn(4, 12, 2)
    moved = model.net(windows * 20 + 300)
    torch.testing.assert_close(moved, model.net(windows) * 20 + 300, atol=0.02, rtol=1e-4)
    flat = torch.full((1, 12, 2), 3.0)
    torch.testing.assert_close(model.net(flat), flat[:, :6], atol=0.05, rtol=0.0)


def test_metrics_are_in_the_units_of_the_data_whatever_the_batches() -> None:
    model = task(features=2)
    model.std.copy_(torch.tensor([2.0, 10.0]))
    model.naive_mae.copy_(torch.tensor([4.0, 5.0]))
    windows, truth, forecast = (torch.randn(7, steps, 2) for steps in (12, 6, 6))
    metrics = model.make_metrics("val")
    for place in (slice(0, 4), slice(4, 7)):
        targets, outputs = model.targets((windows[place], truth[place])), {"forecast": forecast[place]}
        model.update_metrics(metrics, model.losses(outputs, targets), outputs, targets)
    found = {name: value.item() for name, value in metrics.compute().items()}
    for prefix, guess in {"": forecast, "naive_": seasonal_naive(windows, 6, 4)}.items():
        errors = (guess - truth).abs() * torch.tensor([2.0, 10.0])
        assert found[f"{prefix}mae"] == pytest.approx(errors.mean().item(), rel=1e-5)
        scaled = errors / torch.tensor([4.0, 5.0])
        assert found[f"{prefix}mase"] == pytest.approx(scaled.mean().item(), rel=1e-5)
    assert found["mse"] == pytest.approx((((forecast - truth) * torch.tensor([2.0, 10.0])) ** 2).mean().item())
    assert found["loss"] == pytest.approx(((forecast - truth) ** 2).mean().item())
    assert len(found) == 6


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_the_loss_is_the_chosen_one(loss: str) -> None:
    output, target = torch.randn(3, 6, 1) * 3, torch.randn(3, 6, 1)
    expected = {"mse": nn.MSELoss(), "mae": nn.L1Loss(), "huber": nn.HuberLoss()}[loss](output, target)
    assert torch.equal(task(loss=loss).losses({"forecast": output}, {"forecast": target})["forecast"], expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"residual": "first"}, "residual=first must be one of none, last, season"),
        ({"loss": "log"}, "loss=log must be one of mse, mae, huber"),
        ({"season": 13}, "window of 12 steps is shorter than season=13"),
    ],
)
def test_a_value_that_there_is_not_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        task(**options)


def test_a_net_with_too_few_outputs_is_told_how_many_it_needs() -> None:
    with pytest.raises(
        ValueError, match=r"outputs 7 numbers, but horizon=6 and features=2 need 12: set model\.net\.num_classes=12\."
    ):
        task(Constant(*[0.0] * 7), features=2).net(torch.randn(2, 12, 2))


def quiet_trainer(**options: Any) -> L.Trainer:
    parts = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return L.Trainer(accelerator="cpu", **dict.fromkeys(parts, False), **options)


@pytest.fixture
def wave(tmp_path: Path) -> CSVSeriesDataModule:
    """A series with a season and a trend, in its own units."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.arange(200)
    season = torch.tensor([0.0, 10.0, 25.0, 5.0])[steps % 4]
    values = 500 + 0.7 * steps + season + torch.randn(200, generator=generator)
    path = tmp_path / "wave.csv"
    path.write_text("load\n" + "".join(f"{value:.3f}\n" for value in values.tolist()))
    return CSVSeriesDataModule(str(path), batch_size=16, **SIZES)


def test_units_come_from_the_data_and_travel_with_the_weights(wave: CSVSeriesDataModule) -> None:
    model = task(residual="season")
    trainer = quiet_trainer(max_epochs=0)
    trainer.fit(model, datamodule=wave)
    assert model.std.item() == pytest.approx(wave.std.item()) and model.naive_mae.item() == pytest.approx(
        wave.naive_mae.item()
    )
    other = task(residual="season")
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.std, model.std) and torch.equal(other.naive_mae, model.naive_mae)
    (figures,) = trainer.test(model, datamodule=wave, verbose=False)
    assert figures["test/mase"] == figures["test/naive_mase"]
    assert figures["test/naive_mae"] == pytest.approx(figures["test/mase"] * model.naive_mae.item())


def test_the_scale_is_the_error_of_the_seasonal_naive_forecast_in_training(wave: CSVSeriesDataModule) -> None:
    """One step ahead, with a window of a season, on what is trained on: there its MASE is 1 by definition."""
    data = CSVSeriesDataModule(str(wave.file), batch_size=16, **{**SIZES, "window": 4, "horizon": 1})
    model = Forecast(
        Constant(0.0),
        torch.optim.AdamW,
        None,
        (4, 1),
        horizon=1,
        season=4,
        residual="season",
        loss="mse",
        score="mase",
        mode="min",
    )
    quiet_trainer(max_epochs=0).fit(model, datamodule=data)
    (figures,) = quiet_trainer().test(model, dataloaders=data.train_dataloader(), verbose=False)
    assert figures["test/naive_mase"] == pytest.approx(1.0, rel=1e-5)


def test_it_learns_to_forecast_better_than_the_last_season(wave: CSVSeriesDataModule) -> None:
    torch.manual_seed(0)
    model = task(TemporalConvNet(num_classes=6, length=12, in_features=1, channels=16, depth=2), residual="last")
    trainer = quiet_trainer(max_epochs=20)
    trainer.fit(model, datamodule=wave)
    (figures,) = trainer.test(model, datamodule=wave, verbose=False)
    assert figures["test/mase"] < 0.8 * figures["test/naive_mase"] and figures["test/mase"] < 1


def test_data_that_are_no_series_are_refused() -> None:
    data = SyntheticDataModule(
        num_classes=4, channels=1, image_size=12, train_size=32, val_size=8, test_size=16, batch_size=8
    )
    with pytest.raises(ValueError, match=r"Forecasts need naive_mae in input_card\(\), which SyntheticDataModule"):
        quiet_trainer(max_epochs=1).fit(task(), datamodule=data)


@pytest.mark.parametrize(("features", "names"), [(1, ["forecast"]), (5, ["forecast 1", "forecast 2", "forecast 3"])])
def test_history_truth_and_forecast_are_drawn_where_they_are(features: int, names: list[str]) -> None:
    model = task(features=features, horizon=2)
    windows, output, target = (torch.randn(3, steps, features) for steps in (12, 2, 2))
    panels = model.panels(windows, output, target)
    assert list(panels) == names and len(names) <= MAX_PANELS
    for column, curves in enumerate(panels.values()):
        assert curves.shape == (3, 8 + 2, 3)  # four horizons of history
        history, truth, forecast = curves.unbind(dim=2)
        assert torch.equal(history[:, :8], windows[:, 4:, column]) and history[:, 8:].isnan().all()
        for curve, values in ((truth, target), (forecast, output)):
            assert curve[:, :7].isnan().all() and torch.equal(curve[:, 7], windows[:, -1, column])  # joined
            assert torch.equal(curve[:, 8:], values[..., column])
    assert as_pictures(next(iter(panels.values()))).shape[:2] == (3, 3)


def test_a_sample_is_described_by_its_errors_and_the_worst_is_found() -> None:
    model = task()
    model.std.fill_(3.0)
    model.naive_mae.fill_(2.0)
    target = torch.zeros(2, 6, 1)
    output = torch.stack([torch.ones(6, 1), -2 * torch.ones(6, 1)])
    assert model.sample_errors(output, target).tolist() == [1.5, 3.0]
    facts = model.describe_samples(output, target, {})
    assert [model.caption(one) for one in facts] == ["mase 1.5  mae 3", "mase 3  mae 6"]


def test_the_card_of_an_output_tells_its_columns_and_their_units(wave: CSVSeriesDataModule) -> None:
    wave.setup()
    card = task().card(wave.input_card())
    assert card["outputs"] == {
        "forecast": {"kind": "vector", "columns": ["load"], "mean": wave.mean.tolist(), "std": wave.std.tolist()}
    }
    assert card["score"] == "mase" and card["crop"] == "last"


def test_noise_to_measure_a_step_on_fits_the_net() -> None:
    model = task(features=2)
    batch = model.example_batch(5)
    loss, outputs = model.step(batch, model.train_metrics)
    assert outputs["forecast"].shape == batch[-1].shape == (5, 6, 2) and loss.isfinite()
    assert set(model.targets(batch)) == {"forecast", NAIVE}
