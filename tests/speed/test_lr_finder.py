"""The range test raises the rate as documented, suggests one below divergence, and leaves only its curve."""

import json
import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from src.speed import lr_finder
from src.speed.lr_finder import HIGHEST, LOWEST, RangeTest, smooth, suggest_lr
from src.train import train

RATES = [LOWEST * (HIGHEST / LOWEST) ** (step / 99) for step in range(100)]
SMALL = ("data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=96", "data.val_size=16")
SMALL += ("data.test_size=16", "data.batch_size=16", "trainer=cpu", "lr_find=true")


def curve(rate: float, fall: float = 1e-3, rise: float = 1.0) -> float:
    """Return a loss that falls from 2.3 to 0.3 around one rate, fastest there, and rises around another."""
    return 0.3 + 2 / (1 + (rate / fall) ** 2) + (rate / rise) ** 3


@pytest.mark.parametrize(("fall", "rise"), [(1e-4, 0.1), (1e-3, 1.0), (1e-2, 10.0)])
def test_the_suggestion_lies_between_the_steepest_descent_and_the_lowest_loss(fall: float, rise: float) -> None:
    losses = [curve(rate, fall, rise) for rate in RATES]
    lowest = RATES[losses.index(min(losses))]
    assert suggest_lr(RATES, losses) == pytest.approx(math.sqrt(fall * lowest), rel=0.25)
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0)) * 0.05
    noisy = [loss + one for loss, one in zip(losses, noise.tolist(), strict=True)]
    assert fall / 2 < (suggest_lr(RATES, noisy) or 0) < lowest * 2


@pytest.mark.parametrize("losses", [[], [1.0], [math.nan] * 20, [1.0 + step for step in range(50)]])
def test_without_a_fall_there_is_no_suggestion(losses: list[float]) -> None:
    assert suggest_lr(RATES, losses) is None


def test_smoothing_keeps_a_line_and_leaves_out_what_is_not_finite() -> None:
    line = [2.0 - 0.01 * step for step in range(60)]
    assert smooth([*line, math.inf]).tolist()[10:-10] == pytest.approx(line[10:-10], rel=1e-3)


class Rates(L.Callback):
    """Keeps the rates that the optimizer steps with."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_rate_rises_by_a_factor_and_groups_keep_their_ratios(
    accumulate: int, trainer: Callable[..., L.Trainer], model: Any, data: Any
) -> None:
    def optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        groups[1]["lr"] = 0.02
        return torch.optim.SGD(groups, lr=0.01)

    model._optimizer = optimizer
    test, seen = RangeTest(lr=0.01), Rates()
    trainer(test, seen, max_epochs=-1, max_steps=100, accumulate_grad_batches=accumulate).fit(model, data)
    made = len(seen.rates)
    assert len(test.losses) == len(test.rates) == made > 50
    torch.testing.assert_close(test.rates, RATES[:made])
    torch.testing.assert_close(seen.rates, [[rate, 2 * rate] for rate in RATES[:made]])
    assert test.losses[0] == pytest.approx(1.4, abs=0.4)  # of a net with 4 classes that has learnt nothing


def test_the_test_ends_when_the_loss_diverges(trainer: Callable[..., L.Trainer], model: Any, data: Any) -> None:
    model._optimizer = partial(torch.optim.SGD, lr=1e-3)
    model.losses = lambda outputs, targets: {"class": 1e4 * outputs["class"].square().mean()}
    test = RangeTest(lr=1e-3)
    trainer(test, max_epochs=-1, max_steps=100).fit(model, data)
    assert 10 < len(test.losses) < 100


@pytest.mark.parametrize(
    "options",
    [
        ["model=mnist_cnn_8k", "callbacks=[default,ema]", "model/mixing=mixup", "budget=1h"],
        ["model=mnist_cnn_8k", "model/optimizer=sgd", "model/scheduler=one_cycle", "trainer.fast_dev_run=true"],
        ["model=mnist_cnn_8k", "model/optimizer=muon", "model/scheduler=plateau"],
        ["model=mnist_autoencoder_5k"],
    ],
    ids=str,
)
def test_any_run_is_tested_and_leaves_only_its_curve(
    options: list[str],
    compose: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if "model/optimizer=muon" in options:
        pytest.importorskip("timm", reason="model/optimizer=muon needs the extra [timm]")
    monkeypatch.setattr(lr_finder, "STEPS", 40)
    with caplog.at_level(logging.INFO):
        metrics, _ = train(compose(*SMALL, *options))
    assert metrics == {}
    assert {path.name for path in tmp_path.iterdir()} == {"lr_find.json", "lr_find.png"}
    found = json.loads((tmp_path / "lr_find.json").read_text())
    assert len(found["lr"]) == len(found["loss"]) > 10
    assert found["override"] is None or f"try {found['override']};" in caplog.text
    if found["suggestion"]:
        assert float(found["override"].removeprefix("model.optimizer.lr=")) == pytest.approx(
            found["suggestion"], rel=0.1
        )
    with Image.open(tmp_path / "lr_find.png") as picture:
        assert picture.size == (960, 540)


def test_weights_of_another_run_are_where_the_test_starts(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    small = [one for one in SMALL if one != "lr_find=true"]
    options = ["model=mnist_cnn_8k", "model.optimizer.lr=0.01", "trainer.max_epochs=8", "logger=none"]
    train(compose(*small, *options, f"paths.output_dir={tmp_path}/run"))
    losses = []
    for number, more in enumerate(([], [f"init_from={tmp_path}/run"])):
        train(compose(*SMALL, "model=mnist_cnn_8k", *more, f"paths.output_dir={tmp_path}/{number}"))
        losses.append(json.loads((tmp_path / str(number) / "lr_find.json").read_text())["loss"][0])
    assert losses[1] < losses[0]


def test_a_checkpoint_a_metric_and_an_optimizer_without_a_rate_are_refused(
    compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"lr_find=true tests a run from its first step: leave out resume="):
        train(compose(*SMALL, f"ckpt_path={tmp_path}/checkpoints/last.ckpt"))
    with pytest.raises(ValueError, match="trains nothing, so there is no optimized_metric=val/acc_best"):
        train(compose(*SMALL, "optimized_metric=val/acc_best"))
    with pytest.raises(ValueError, match="this optimizer does not have"):
        train(compose(*SMALL, "model=mnist_cnn_8k", "~model.optimizer.lr"))
