"""Base class of the DataModules for forecasts: windows of one series and the steps after them, split by time."""

import hashlib
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from src.data.batches import TensorLoader
from src.data.splits import LoadedSplits


class SeriesDataModule(LoadedSplits):
    """Serve windows of a series with the values that follow them. A subclass implements `load`.

    The first steps of the series are for training, the next for validation, the last for the test. A split has all
    windows whose targets lie in it; the history of a forecast may reach back into the previous split. Windows and
    targets are normalised with the statistics of the training steps, and are views of a single tensor.

    Args:
        features: F, the number of columns.
        window: T, the number of past steps that a forecast is made from.
        horizon: H, the number of steps to forecast.
        season: steps after which the series approximately repeats, such as 12 months; 1 for none. The seasonal-naive
            forecast repeats the last season.
        val_size: number of steps for validation; below 1: as a share of all steps.
        test_size: number of steps for the test; below 1: as a share of all steps.
        batch_size: samples per batch, over all ranks together.
        shuffle: draw a new order of the training windows for every epoch.
        drop_last: drop an incomplete last training batch.
        pin_memory: copy batches to page-locked memory, for a GPU.
        seed: seed of the order of training windows.

    Raises:
        ValueError: a value is out of its range, or the window is shorter than a season.
    """

    def __init__(
        self,
        *,
        features: int,
        window: int,
        horizon: int,
        season: int,
        val_size: float,
        test_size: float,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        pin_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, pin_memory)
        for name, value in {"features": features, "window": window, "horizon": horizon, "season": season}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        for name, size in {"val_size": val_size, "test_size": test_size}.items():
            if size < 0 or (size > 1 and size != int(size)):
                raise ValueError(f"{name}={size} must be a number of steps, or a share of all steps below 1.")
        if window < season:
            raise ValueError(
                f"window={window} is shorter than season={season}, so that the last season cannot be repeated: set "
                f"window={season} or more, or season=1."
            )
        self.features, self.window, self.horizon, self.season = features, window, horizon, season
        self.val_size, self.test_size = val_size, test_size
        self.shuffle, self.drop_last, self.seed = shuffle, drop_last, seed
        self.columns: list[str] = []
        self.mean = self.std = self.naive_mae = torch.empty(0)  # (F,) each

    @abstractmethod
    def load(self) -> tuple[Tensor, list[str]]:
        """Return the series, float64 (N, F), and the names of its columns."""

    def setup(self, stage: str | None = None) -> None:
        """Load the series, split and normalise it.

        Raises:
            ValueError: it has the wrong number of columns or is too short, or a column repeats itself exactly.
        """
        if self.data_train is not None:
            return
        series, self.columns = self.load()  # (N, F)
        if series.shape[1] != self.features:
            raise ValueError(
                f"The series has the columns {', '.join(self.columns)}: set data.features={len(self.columns)} instead "
                f"of {self.features}, or select some with data.columns."
            )
        train, val, test = self._lengths(len(series))
        self.std, self.mean = torch.std_mean(series[:train], dim=0, correction=0)  # (F,)
        self.naive_mae = seasonal_differences(series[:train], self.season).abs().mean(dim=0)  # (F,)
        for name, error, std in zip(self.columns, self.naive_mae.tolist(), self.std.tolist(), strict=True):
            if error <= 1e-9 * std:
                raise ValueError(
                    f"The column {name} repeats itself exactly every season={self.season} steps in training: there is "
                    "nothing to learn from it, and no error to scale by; remove it from data.columns."
                )
        normalised = ((series - self.mean) / self.std).float()  # (N, F)
        windows = normalised.unfold(0, self.window + self.horizon, 1).transpose(1, 2)  # (M, T + H, F), a view
        inputs, targets = windows[:, : self.window], windows[:, self.window :]  # (M, T, F), (M, H, F)

        def split(start: int, end: int) -> TensorDataset:
            first, last = max(start - self.window, 0), max(end - self.window - self.horizon + 1, 0)
            return TensorDataset(inputs[first:last], targets[first:last])

        self.data_train, self.data_val = split(0, train), split(train, train + val)
        self.data_test = split(train + val, train + val + test)

    def _lengths(self, steps: int) -> list[int]:
        """Return the number of steps for training, validation and test in a series of `steps` steps."""
        val, test = (round(size * steps) if size < 1 else int(size) for size in (self.val_size, self.test_size))
        train, needed = steps - val - test, self.window + self.horizon
        if train < needed:
            raise ValueError(
                f"The series has {steps} steps, of which val_size={val} and test_size={test} leave {max(train, 0)} for "
                f"training: window={self.window} and horizon={self.horizon} need {needed} or more."
            )
        for name, size in {"val_size": val, "test_size": test}.items():
            if 0 < size < self.horizon:
                raise ValueError(f"{name}={size} steps are fewer than horizon={self.horizon}: there is no window.")
        return [train, val, test]

    def checksum_of(self, split: TensorDataset) -> str:
        """Return the SHA-256 of the steps of a split, each counted once."""
        inputs, targets = split.tensors
        steps = torch.cat([inputs[:, 0], *inputs[-1:, 1:], *targets[-1:]])  # (M + T + H - 1, F)
        return hashlib.sha256(steps.numpy().data).hexdigest()

    def make_loader(
        self, split: TensorDataset, train: bool, batch_size: int, rank: int, world_size: int
    ) -> TensorLoader:
        """Make a loader of a split; only training windows are shuffled."""
        inputs, targets = split.tensors
        return TensorLoader(
            inputs,
            targets,
            batch_size=batch_size,
            shuffle=train and self.shuffle,
            drop_last=train and self.drop_last,
            seed=self.seed,
            pin_memory=self.pin_memory,
            rank=rank,
            world_size=world_size,
        )

    def input_card(self) -> dict[str, Any]:
        """Describe how a series becomes an input, its columns, and the baseline of its forecasts."""
        assert len(self.columns), "call setup() first"
        return {
            "input": "series",
            "length": self.window,
            "features": self.features,
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "crop": "last",  # a forecast is made from the last steps of a longer series
            "columns": self.columns,
            "season": self.season,
            "naive_mae": self.naive_mae.tolist(),  # error of the seasonal-naive forecast, one step ahead, in training
        }


def seasonal_differences(series: Tensor, season: int) -> Tensor:
    """Return the difference (N - season, F) of each step of a series (N, F) from the step one season earlier."""
    return series[season:] - series[:-season]
