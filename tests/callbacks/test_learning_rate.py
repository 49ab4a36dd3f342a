"""The learning rate is logged as a single curve."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.callbacks.learning_rate import LearningRate

Trainer = Callable[..., L.Trainer]


class Halve(L.Callback):
    """Halve the rate after every step."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] /= 2


def test_one_curve_is_logged_for_all_parameter_groups(
    data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer, tmp_path: Path
) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    run = trainer(LearningRate(), Halve(), logger=logger, max_epochs=2, log_every_n_steps=3)
    run.fit(model, datamodule=data)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [tag for tag in events.Tags()["scalars"] if "lr" in tag] == ["lr"]
    assert [(event.step, event.value) for event in events.Scalars("lr")] == [
        (2, pytest.approx(1e-4 / 4)),
        (5, pytest.approx(1e-4 / 32)),
    ]
    assert float(run.callback_metrics["lr"]) == pytest.approx(1e-4 / 32)


def test_no_logger_is_needed(data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer) -> None:
    run = trainer(LearningRate(), log_every_n_steps=1)
    run.fit(model, datamodule=data)
    assert float(run.callback_metrics["lr"]) == pytest.approx(1e-4)
