"""Early stopping, and the plateau schedule, with training images that grow during the run."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from src.train import train
from tests.conftest import TINY_RUN

OPTIONS = ("model=mnist_cnn_8k", "trainer.max_epochs=8", "callbacks.early_stopping.patience=1", "model.optimizer.lr=0")


GROWING = pytest.mark.parametrize(
    ("sizes", "epochs"),
    [("null", 2), ("[14,28]", 6), ("[28,28]", 2)],
    ids=["as they are", "smaller at first", "of one size"],
)


@GROWING
def test_epochs_of_smaller_images_do_not_count(compose: Callable[..., DictConfig], sizes: str, epochs: int) -> None:
    _, objects = train(compose(*TINY_RUN, *OPTIONS, "test=false", f"data.sizes={sizes}"))
    assert objects["trainer"].current_epoch == epochs  # the first one that counts, and one that is no better


@GROWING
def test_the_rate_is_lowered_after_epochs_of_full_size(
    compose: Callable[..., DictConfig], sizes: str, epochs: int
) -> None:
    options = ("model/scheduler=plateau", "model.scheduler.patience=0", "model.scheduler.factor=0.5")
    options += ("+model.scheduler.threshold=0.9", "model.optimizer.lr=0.001", "callbacks=none", f"data.sizes={sizes}")
    _, objects = train(compose(*TINY_RUN, "model=mnist_cnn_8k", "trainer.max_epochs=8", "test=false", *options))
    rate = objects["trainer"].optimizers[0].param_groups[0]["lr"]
    assert rate == pytest.approx(0.001 * 0.5 ** (8 - epochs + 1), abs=0)  # in each epoch after the first that counts
