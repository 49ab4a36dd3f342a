"""Early stopping with training images that grow during the run."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from src.train import train
from tests.conftest import TINY_RUN

OPTIONS = ("model=mnist_cnn_8k", "trainer.max_epochs=8", "callbacks.early_stopping.patience=1", "model.optimizer.lr=0")


@pytest.mark.parametrize(
    ("sizes", "epochs"),
    [("null", 2), ("[14,28]", 6), ("[28,28]", 2)],
    ids=["as they are", "smaller at first", "of one size"],
)
def test_epochs_of_smaller_images_do_not_count(compose: Callable[..., DictConfig], sizes: str, epochs: int) -> None:
    _, objects = train(compose(*TINY_RUN, *OPTIONS, "test=false", f"data.sizes={sizes}"))
    assert objects["trainer"].current_epoch == epochs  # the first one that counts, and one that is no better
