"""Curves by epoch are read from the files of loggers."""

import os
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from src.report.curves import MAX_RECORD_BYTES, Curve, mean_curve, read_records, thin_out
from src.report.curves import read_curves as read_named_curves

KINDS = {"tensorboard": TensorBoardLogger, "csv": CSVLogger}


def read_curves(folder: Path) -> dict[str, Curve]:
    """The curves of a classifier."""
    return read_named_curves(folder, ("train/loss", "val/loss", "val/acc"))


@pytest.mark.parametrize("kind", KINDS)
def test_curves_are_those_that_are_asked_for(kind: str, tmp_path: Path) -> None:
    logger = KINDS[kind](tmp_path, name=kind, version="")
    logger.log_metrics({"val/mse": 0.5, "val/loss": 1.0, "val/acc": 0.25, "epoch": 0}, step=9)
    logger.finalize("success")
    assert read_named_curves(tmp_path, ("val/loss", "val/mse")) == {"val/loss": [(1, 1.0)], "val/mse": [(1, 0.5)]}


@pytest.mark.parametrize("kind", KINDS)
def test_the_curves_of_each_logger(kind: str, tmp_path: Path) -> None:
    logger = KINDS[kind](tmp_path, name=kind, version="")
    for epoch in range(3):
        logger.log_metrics({"train/loss_step": 9.0}, step=10 * epoch + 4)
        logger.log_metrics({"val/acc": epoch / 10, "train/loss": 1.0 - epoch, "epoch": epoch}, step=10 * epoch + 9)
    logger.finalize("success")
    curves = read_curves(tmp_path)
    assert curves["val/acc"] == [(1, 0.0), (2, pytest.approx(0.1)), (3, pytest.approx(0.2))]
    assert curves["train/loss"] == [(1, 1.0), (2, 0.0), (3, -1.0)] and "train/loss_step" not in curves


def test_what_was_done_again_counts_once(tmp_path: Path) -> None:
    for purge, values in ((None, [0.1, 0.2, 0.3]), (20, [None, 0.25])):
        logger = TensorBoardLogger(tmp_path, name="tensorboard", version="", purge_step=purge)
        for epoch, value in enumerate(values):
            if value is not None:
                logger.log_metrics({"val/acc": value, "epoch": epoch}, step=10 * epoch + 19)
        logger.finalize("success")
    assert read_curves(tmp_path)["val/acc"] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.25))]


def test_values_of_the_hparams_tab_are_not_points(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="", default_hp_metric=False)
    logger.log_metrics({"val/acc": 0.5, "epoch": 0}, step=9)
    logger.log_hyperparams({"x": 1}, {"val/acc": 0.5})
    logger.finalize("success")
    assert read_curves(tmp_path)["val/acc"] == [(1, 0.5)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_has_diverged_ends_its_curve(kind: str, tmp_path: Path) -> None:
    logger = KINDS[kind](tmp_path, name=kind, version="")
    for epoch, loss in enumerate((0.5, float("inf"), float("nan"))):
        logger.log_metrics({"train/loss": loss, "val/loss": float("nan"), "epoch": epoch}, step=10 * epoch + 9)
    logger.finalize("success")
    assert read_curves(tmp_path) == {"train/loss": [(1, 0.5)]}


def test_what_is_not_a_number_in_a_csv_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("epoch,val/acc\n0,0.5\n1,x\nnan,0.2\nx,0.3\n,0.4\n2")
    assert read_curves(tmp_path) == {"val/acc": [(1, 0.5)]}


def test_no_logger_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == {}
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.1").write_bytes(b"no events")
    assert read_curves(tmp_path) == {}


def test_pictures_and_what_is_cut_off_are_passed(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    logger.log_metrics({"val/acc": 0.5, "epoch": 0}, step=9)
    logger.experiment.add_image("noise", torch.rand(3, 256, 256), 9)
    logger.log_metrics({"val/acc": 0.75, "epoch": 1}, step=19)
    logger.finalize("success")
    (path,) = (tmp_path / "tensorboard").glob("events*")
    assert path.stat().st_size > 2 * MAX_RECORD_BYTES and max(map(len, read_records(path))) < 100
    whole = read_curves(tmp_path)
    assert whole == {"val/acc": [(1, 0.5), (2, 0.75)]}
    while content := path.read_bytes():
        path.write_bytes(content[:-4999])
        assert read_curves(tmp_path).get("val/acc", []) in ([], whole["val/acc"][:1])


def test_what_is_no_file_of_events_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").mkdir()
    os.mkfifo(tmp_path / "tensorboard" / "events.out.tfevents.1")
    (tmp_path / "tensorboard" / "events.out.tfevents.2").mkdir()
    (tmp_path / "csv").mkdir()
    os.mkfifo(tmp_path / "csv" / "metrics.csv")
    assert read_curves(tmp_path) == {}


def test_a_mean_is_over_the_epochs_that_all_have() -> None:
    assert mean_curve([[(1, 0.0), (2, 1.0), (3, 5.0)], [(1, 1.0), (2, 2.0)]]) == [(1, 0.5), (2, 1.5)]
    assert mean_curve([]) == []


def test_a_long_curve_keeps_its_ends() -> None:
    curve = [(float(epoch), 0.0) for epoch in range(1001)]
    kept = thin_out(curve, max_points=100)
    assert len(kept) <= 102 and kept[0] == curve[0] and kept[-1] == curve[-1]
    assert thin_out(curve[:100], max_points=100) == curve[:100]
