"""Forecasts of a series, measured against the seasonal-naive forecast."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.models.metrics import Means
from src.models.task import Batch, Outputs, Task

LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}
RESIDUALS = ("none", "last", "season")
NAIVE = "naive"  # among the targets: the seasonal-naive forecast
DRAWN_HORIZONS = 4  # length of the history in a picture, in horizons
MAX_PANELS = 3  # one for each of the first columns


class ResidualForecaster(nn.Module):
    """Forecast what follows a window, as the sum of a base forecast and a net's output.

    Args:
        net: maps windows (B, T, F) to (B, horizon · F).
        horizon: H, the number of steps to forecast.
        season: steps after which the series approximately repeats.
        residual: what the net's output is added to: "last", the last value; "season", the last season, repeated;
            "none", nothing. With "last" and "season", each window is normalised by its own mean and standard deviation
            and the output is scaled back (RevIN, Kim et al. 2022), so that the net need not know the level and the
            spread of a series, which change with time.

    Raises:
        ValueError: `residual` is none of these.
    """

    def __init__(self, net: nn.Module, horizon: int, season: int, residual: str) -> None:
        super().__init__()
        if residual not in RESIDUALS:
            raise ValueError(f"residual={residual} must be one of {', '.join(RESIDUALS)}.")
        self.net, self.horizon, self.season, self.residual = net, horizon, season, residual

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows (B, T, F) to forecasts (B, H, F), both normalised."""
        if self.residual == "none":
            return self._steps(windows)
        centred = windows - windows.mean(dim=1, keepdim=True)  # (B, T, F)
        std = (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()  # (B, 1, F)
        last = windows[:, -1:]  # (B, 1, F)
        base = last if self.residual == "last" else seasonal_naive(windows, self.horizon, self.season)
        return base + std * self._steps(centred / std)

    def _steps(self, windows: Tensor) -> Tensor:
        """Return the net's output for windows (B, T, F) as steps (B, H, F)."""
        output, features = self.net(windows), windows.shape[2]  # (B, H · F)
        if output.shape[1] != self.horizon * features:
            raise ValueError(
                f"The net outputs {output.shape[1]} numbers, but horizon={self.horizon} and features={features} need "
                f"{self.horizon * features}: set model.net.num_classes={self.horizon * features}."
            )
        return output.unflatten(1, (self.horizon, features))


class Forecast(Task):
    """Train any net that maps windows of a series (B, T, F) to the steps that follow, (B, horizon · F).

    The loss is computed on normalised values. Metrics are in the units of the data, as means over windows, steps and
    columns: `mse`, `mae`, and `mase`, the absolute error divided by the one-step error of the seasonal-naive forecast
    on the training data (Hyndman & Koehler 2006, doi 10.1016/j.ijforecast.2006.03.001). `naive_mae` and `naive_mase`
    are the errors of the seasonal-naive forecast of the same steps, which repeats the last season.

    Args:
        net: the net, which `ResidualForecaster` wraps.
        args: see `Task`; the input shape is (T, F).
        horizon: see `ResidualForecaster`.
        season: see `ResidualForecaster`.
        residual: see `ResidualForecaster`.
        loss: "mse", "mae" or "huber".
        options: see `Task`.

    Raises:
        ValueError: `residual` or `loss` is none of these, or the window is shorter than a season.
    """

    output_name, baseline = "forecast", "naive_mase"
    std: Tensor
    naive_mae: Tensor

    def __init__(
        self, net: nn.Module, *args: Any, horizon: int, season: int, residual: str, loss: str, **options: Any
    ) -> None:
        super().__init__(ResidualForecaster(net, horizon, season, residual), *args, **options)
        if loss not in LOSSES:
            raise ValueError(f"loss={loss} must be one of {', '.join(LOSSES)}.")
        window, features = self.example_input_array.shape[1:]  # type: ignore[union-attr]  # a tensor
        if window < season:
            raise ValueError(f"The window of {window} steps is shorter than season={season}: make it longer.")
        self.horizon, self.season, self.loss = horizon, season, LOSSES[loss]
        # scale and naive error of each column (F,), for metrics in the units of the data; saved in checkpoints
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("naive_mae", torch.ones(features))

    def setup(self, stage: str) -> None:
        """Read the scale and the naive error of each column from the data before training.

        Raises:
            ValueError: the data lack `std` or `naive_mae`.
        """
        if stage == "fit":
            card, data = self.data_card(), type(self.trainer.datamodule)  # type: ignore[attr-defined]  # set dynamically
            for name in ("std", "naive_mae"):
                if name not in card:
                    raise ValueError(
                        f"Forecasts need {name} in input_card(), which {data.__name__} does not return: "
                        "use a series, such as data=sunspots."
                    )
                getattr(self, name).copy_(torch.tensor(card[name]))
        super().setup(stage)

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the steps (B, H, F) that follow each window, and the seasonal-naive forecast of them."""
        return {self.output_name: batch[-1], NAIVE: seasonal_naive(batch[0], self.horizon, self.season)}

    def losses(self, outputs: Outputs, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean loss () on normalised values."""
        return {name: self.loss(output.float(), targets[name]) for name, output in outputs.items()}

    def make_metrics(self, stage: str) -> Means:
        """Create the metrics of a stage."""
        return Means("loss", "mse", "mae", "mase", "naive_mae", "naive_mase")

    def update_metrics(
        self, metrics: Means, losses: Mapping[str, Tensor], outputs: Outputs, targets: Mapping[str, Tensor]
    ) -> None:
        """Add a batch to the metrics of a stage."""
        target = targets[self.output_name]
        errors = self._errors(outputs[self.output_name], target)  # (B, H, F)
        naive_errors = self._errors(targets[NAIVE], target)
        metrics.update(
            len(target),
            loss=losses[self.output_name],
            mse=sample_means(errors.square()),
            mae=sample_means(errors),
            mase=sample_means(errors / self.naive_mae.to(errors)),
            naive_mae=sample_means(naive_errors),
            naive_mase=sample_means(naive_errors / self.naive_mae.to(errors)),
        )

    def _errors(self, forecast: Tensor, target: Tensor) -> Tensor:
        """Return the absolute errors (B, H, F) in the units of the data."""
        return (forecast.float() - target).abs() * self.std.to(target)

    def example_targets(self, outputs: Outputs) -> Tensor:
        """Return zeros (B, H, F)."""
        return torch.zeros_like(outputs[self.output_name])

    def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Describe the output as steps of columns, normalised as the input is."""
        return {self.output_name: {"kind": "vector", **{name: input_card[name] for name in ("columns", "mean", "std")}}}

    def sample_errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean absolute scaled error (B,) of each forecast."""
        errors = self._errors(output, target)
        return sample_means(errors / self.naive_mae.to(errors))

    def describe_samples(self, output: Tensor, target: Tensor, card: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the `mase` and `mae` of each forecast."""
        scaled, errors = self.sample_errors(output, target), sample_means(self._errors(output, target))
        return [{"mase": mase, "mae": mae} for mase, mae in zip(scaled.tolist(), errors.tolist(), strict=True)]

    def panels(self, inputs: Tensor, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return curves (B, steps, 3) of each column: windows (B, T, F), the true steps, and the forecast (B, H, F)."""
        history = inputs[:, -DRAWN_HORIZONS * self.horizon :].float()  # (B, T', F)
        gap = torch.full_like(history[:, :-1], torch.nan)
        last = history[:, -1:]  # where all curves meet
        after = torch.full_like(target, torch.nan, dtype=torch.float32)
        curves = [
            torch.cat(parts, dim=1)  # (B, T' + H, F)
            for parts in ([history, after], [gap, last, target.float()], [gap, last, output.float()])
        ]
        columns = torch.stack(curves, dim=3).unbind(dim=2)[:MAX_PANELS]  # (B, T' + H, 3) each
        name = self.output_name
        return {name if len(columns) == 1 else f"{name} {index}": column for index, column in enumerate(columns, 1)}


def sample_means(values: Tensor) -> Tensor:
    """Return the mean (B,) of each sample's values (B, …)."""
    return values.flatten(1).mean(dim=1)


def seasonal_naive(windows: Tensor, horizon: int, season: int) -> Tensor:
    """Repeat the last season of windows (B, T, F) for (B, horizon, F)."""
    return windows[:, -season:].repeat(1, -(-horizon // season), 1)[:, :horizon]
