"""Averaged views have a separate metric; the other metrics do not change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from src.callbacks.test_time_augmentation import AveragedViews
from src.train import train
from tests.programs import run
from tests.test_eval import figures

VIEWS = {"flip": {"flip": True}, "shift": {"shift": 1}, "both": {"flip": True, "shift": 2}}
SMALL = ("data.train_size=64", "data.val_size=16", "data.test_size=48", "data.batch_size=16", "trainer.max_epochs=1")


def views_by_hand(images: Tensor, flip: bool = False, shift: int = 0) -> list[tuple[Tensor, float]]:
    """Return the views and weights of Jordan 2024, pixel by pixel."""
    _, _, height, width = images.shape

    def moved(offset: int) -> Tensor:
        rows = [abs(row + offset) for row in range(height)]
        columns = [abs(column + offset) for column in range(width)]
        rows = [2 * (height - 1) - row if row >= height else row for row in rows]
        columns = [2 * (width - 1) - column if column >= width else column for column in columns]
        return images[:, :, rows][:, :, :, columns]

    views = [(images, 0.5), (moved(shift), 0.25), (moved(-shift), 0.25)] if shift else [(images, 1.0)]
    return views if not flip else [(v, w / 2) for one, w in views for v in (one, one.flip(3))]


@pytest.mark.parametrize("options", VIEWS.values(), ids=VIEWS)
def test_logits_are_averaged_over_the_views(
    options: dict[str, Any], model: L.LightningModule, data: Any, trainer: Callable[..., L.Trainer]
) -> None:
    torch.nn.init.normal_(model.net.head.weight)  # so that views may disagree
    data.setup()
    images, labels = data.data_test.tensors
    images = (images.float() / 255 - torch.tensor(data.mean)) / torch.tensor(data.std)
    model.eval()
    with torch.no_grad():
        expected = sum(weight * model(view) for view, weight in views_by_hand(images, **options))
        (logits,) = AveragedViews(**options).logits(model, images).values()
        accuracy = (expected.argmax(1) == labels).float().mean()
    torch.testing.assert_close(logits, expected)
    assert sum(weight for _, weight in AveragedViews(**options).views(images)) == 1
    plain = trainer().test(model, datamodule=data, verbose=False)[0]
    found = trainer(AveragedViews(**options)).test(model, datamodule=data, verbose=False)[0]
    assert found.pop("test/acc_tta") == pytest.approx(accuracy.item())
    assert found == plain


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["model=mnist_autoencoder_5k", "data=mnist_5k"], "Reconstruction"),
        (["model=scenes_unet_64k", "data.train_size=16", "data.test_size=8", "data.val_size=4"], "Segmentation"),
        (["model=rows_gru_64k", "data=mnist_5k_rows"], "Classifier"),
    ],
)
def test_what_predicts_no_classes_of_images_is_refused_before_training(
    overrides: list[str], named: str, compose: Callable[..., DictConfig]
) -> None:
    cfg = compose(*overrides, "tta=flip", "callbacks=none", "logger=none", "trainer=cpu", "trainer.max_epochs=1")
    with pytest.raises(ValueError, match=rf"which {named} does not predict here: set tta=none"):
        train(cfg)


@pytest.mark.parametrize(
    ("options", "named"),
    [({}, "leave a single view"), ({"shift": -1}, "tta.shift=-1"), ({"flip": False}, "leave a single view")],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AveragedViews(**options)


def test_a_shift_beyond_the_image_is_refused(
    model: L.LightningModule, data: Any, trainer: Callable[..., L.Trainer]
) -> None:
    with pytest.raises(ValueError, match=r"tta\.shift=8 must be less than the 8 pixels"):
        trainer(AveragedViews(shift=8)).test(model, datamodule=data, verbose=False)


def test_several_heads_are_averaged(compose: Callable[..., DictConfig]) -> None:
    small = ("data.val_size=100", "data.batch_size=16", "trainer=cpu", "trainer.max_epochs=1", "logger=none")
    limits = ("trainer.limit_train_batches=2", "trainer.limit_test_batches=2", "callbacks=none")
    metrics, _ = train(compose("model=mnist_mh_cnn_422k", "data=mnist_5k_multihead", "tta=shift", *small, *limits))
    assert 0 <= metrics["test/acc_tta"] <= 1


def test_runs_and_later_tests_report_it_by_one_word(tmp_path: Path) -> None:
    small = ("model=mnist_cnn_8k", "data=synthetic", "data.channels=1", "data.image_size=28", "logger=none", *SMALL)
    trained = run("train", *small, "tta=flip_shift", f"hydra.run.dir={tmp_path}/run")
    assert trained.returncode == 0, trained.stderr
    again = run("eval", f"run_dir={tmp_path}/run", "tta=flip_shift", "logger=none", f"hydra.run.dir={tmp_path}/eval")
    assert again.returncode == 0, again.stderr
    assert run("eval", f"run_dir={tmp_path}/run", "logger=none", f"hydra.run.dir={tmp_path}/plain").returncode == 0
    first, second, third = (figures(tmp_path / name) for name in ("run", "eval", "plain"))
    assert "test/acc_tta" in again.stdout
    assert first["test/acc_tta"] == second["test/acc_tta"]
    assert first["test/acc"] == second["test/acc"] == third["test/acc"]
    assert "test/acc_tta" not in third and "val/acc_tta" not in first
