"""Pictures in TensorBoard: which ones, how often, and whether they are correct."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.callbacks.image_report import ImageReport, confusion_figure, encode_pngs, image_grid

Trainer = Callable[..., L.Trainer]
Known = Callable[..., tuple[L.LightningModule, L.LightningDataModule]]

# the true class of six images; what the net says, and how sure it is
LABELS = [0, 0, 1, 1, 2, 2]
ANSWERS = [(0, 0.9), (1, 0.6), (1, 0.8), (2, 0.95), (2, 0.5), (0, 0.7)]
PERFECT = [(label, 0.9) for label in LABELS]


def pictures(folder: Path) -> dict[str, int]:
    """Count how often each picture was logged, as TensorBoard reads the files."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {tag: len(events.Images(tag)) for tag in events.Tags()["images"]}


@pytest.fixture
def logger(tmp_path: Path) -> TensorBoardLogger:
    return TensorBoardLogger(tmp_path, name="", version="")


@pytest.fixture
def figures(logger: TensorBoardLogger, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Capture the figures by tag before TensorBoard turns them into pixels."""
    kept: dict[str, Any] = {}
    monkeypatch.setattr(logger.experiment, "add_figure", lambda tag, figure, **_: kept.update({tag: figure}))
    return kept


def titles(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def cells(figure: Any) -> dict[tuple[int, int], int]:
    """Return the drawn counts of a confusion matrix: (true, predicted) → count."""
    drawn = {}
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        drawn[row, column] = int(text.get_text())
    return drawn


# ---- a whole run


def test_training_and_test_log_each_picture_once(
    data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer, logger: TensorBoardLogger, tmp_path: Path
) -> None:
    run = trainer(ImageReport(), max_epochs=2, logger=logger)
    run.fit(model, datamodule=data)
    assert pictures(tmp_path) == {"train/samples": 1}
    run.test(model, datamodule=data, verbose=False)
    logger.finalize("success")
    assert pictures(tmp_path) == {"train/samples": 1, "test/confusion_matrix": 1, "test/worst_mistakes": 1}


@pytest.mark.parametrize(("folder", "drawn"), [("first", {}), ("another", {"train/samples": 1})])
def test_a_resumed_run_does_not_log_its_samples_again(
    folder: str,
    drawn: dict[str, int],
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Trainer,
    tmp_path: Path,
) -> None:
    first = trainer(ImageReport(dirpath=str(tmp_path / "first")), logger=TensorBoardLogger(tmp_path / "a", name=""))
    first.fit(model, datamodule=data)
    first.save_checkpoint(tmp_path / "last.ckpt")
    logger = TensorBoardLogger(tmp_path, name="b", version="")
    run = trainer(ImageReport(dirpath=str(tmp_path / folder)), max_epochs=2, logger=logger)
    run.fit(model, datamodule=data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    logger.finalize("success")
    assert pictures(tmp_path / "b") == drawn


def test_a_test_alone_logs_the_test_pictures(
    known: Known, trainer: Trainer, logger: TensorBoardLogger, tmp_path: Path
) -> None:
    model, data = known(LABELS, ANSWERS, num_classes=3)
    trainer(ImageReport(), logger=logger).test(model, datamodule=data, verbose=False)
    logger.finalize("success")
    assert pictures(tmp_path) == {"test/confusion_matrix": 1, "test/worst_mistakes": 1}


def test_a_perfect_net_shows_no_mistakes(
    known: Known, trainer: Trainer, logger: TensorBoardLogger, tmp_path: Path
) -> None:
    model, data = known(LABELS, PERFECT, num_classes=3)
    trainer(ImageReport(), logger=logger).test(model, datamodule=data, verbose=False)
    logger.finalize("success")
    assert pictures(tmp_path) == {"test/confusion_matrix": 1}


def test_a_hundred_classes_in_colour_are_supported(
    known: Known, trainer: Trainer, logger: TensorBoardLogger, tmp_path: Path
) -> None:
    answers = [(99 - label, 0.5) for label in range(100)]
    model, data = known(list(range(100)), answers, num_classes=100, channels=3)
    trainer(ImageReport(), logger=logger).test(model, datamodule=data, verbose=False)
    logger.finalize("success")
    assert pictures(tmp_path) == {"test/confusion_matrix": 1, "test/worst_mistakes": 1}


@pytest.mark.parametrize("csv", [False, True])
def test_a_run_without_tensorboard_logs_no_pictures(
    csv: bool, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer, tmp_path: Path
) -> None:
    run = trainer(ImageReport(), logger=CSVLogger(tmp_path) if csv else False)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    assert "test/acc" in run.callback_metrics
    assert not list(tmp_path.rglob("events.out.*"))


# ---- what the pictures show


@pytest.mark.parametrize("num_images", [3, 8, 36])
def test_the_samples_are_the_first_training_images(
    num_images: int,
    data: Any,
    model: L.LightningModule,
    trainer: Trainer,
    logger: TensorBoardLogger,
    figures: dict[str, Any],
) -> None:
    trainer(ImageReport(num_images), max_epochs=2, logger=logger).fit(model, datamodule=data)
    images, labels = next(iter(data.train_dataloader()))
    count = min(num_images, 8)
    assert titles(figures["train/samples"]) == [str(label) for label in labels[:count].tolist()]
    assert len(figures["train/samples"].axes[0].images) == count
    drawn = np.asarray(figures["train/samples"].axes[0].images[0].get_array())
    first = images[0, 0].numpy()
    assert np.corrcoef(drawn.ravel(), first.ravel())[0, 1] == pytest.approx(1, abs=1e-4)


def test_the_confusion_matrix_counts_true_and_predicted_pairs(
    known: Known, trainer: Trainer, logger: TensorBoardLogger, figures: dict[str, Any]
) -> None:
    # unequal, so that true and predicted cannot be confused
    labels = [0, 0, 0, 0, 0, 1, 1, 2, 2]
    answers = [0, 0, 0, 1, 2, 1, 2, 2, 2]
    model, data = known(labels, [(answer, 0.9) for answer in answers], num_classes=4, names=["a", "b", "c", "d"])
    trainer(ImageReport(), logger=logger).test(model, datamodule=data, verbose=False)
    figure = figures["test/confusion_matrix"]
    assert cells(figure) == {(0, 0): 3, (0, 1): 1, (0, 2): 1, (1, 1): 1, (1, 2): 1, (2, 2): 2}
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("true", "predicted")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c", "d"]


def test_a_second_test_starts_from_zero(
    known: Known, trainer: Trainer, logger: TensorBoardLogger, figures: dict[str, Any]
) -> None:
    model, data = known(LABELS, ANSWERS, num_classes=3)
    run = trainer(ImageReport(), logger=logger)
    for _ in range(2):
        run.test(model, datamodule=data, verbose=False)
        assert sum(cells(figures["test/confusion_matrix"]).values()) == len(LABELS)
        assert len(titles(figures["test/worst_mistakes"])) == 3


@pytest.mark.parametrize("num_images", [2, 3, 36])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ["1, not\n2 95%", "2, not\n0 70%", "0, not\n1 60%"]),
        (["cat", "dog", "owl"], ["dog, not\nowl 95%", "owl, not\ncat 70%", "cat, not\ndog 60%"]),
    ],
    ids=["numbered", "named"],
)
def test_the_worst_mistakes_have_the_highest_confidence(
    names: list[str] | None,
    expected: list[str],
    num_images: int,
    known: Known,
    trainer: Trainer,
    logger: TensorBoardLogger,
    figures: dict[str, Any],
) -> None:
    # batches are of 4: the mistakes of several are compared
    model, data = known(LABELS, ANSWERS, num_classes=3, names=names)
    trainer(ImageReport(num_images), logger=logger).test(model, datamodule=data, verbose=False)
    assert titles(figures["test/worst_mistakes"]) == expected[:num_images]


def test_a_mistake_is_shown_with_its_own_image(known: Known, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("src.callbacks.image_report.image_grid", lambda images, titles: shown.append(images))
    monkeypatch.setattr(ImageReport, "_log", staticmethod(lambda trainer, tag, draw: draw()))
    model, data = known(LABELS, ANSWERS, num_classes=3)
    trainer(ImageReport()).test(model, datamodule=data, verbose=False)
    assert shown[0][:, 0, 0, 0].tolist() == pytest.approx([3, 5, 1])  # an image's pixels hold its index


# ---- drawing


def test_confusion_rows_are_coloured_by_their_fractions() -> None:
    counts = torch.tensor([[30, 10, 0], [0, 0, 0], [0, 1, 1]])
    figure = confusion_figure(counts, None)
    colours = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(colours, [[0.75, 0.25, 0], [0, 0, 0], [0, 0.5, 0.5]])
    assert cells(figure) == {(0, 0): 30, (0, 1): 10, (2, 1): 1, (2, 2): 1}


@pytest.mark.parametrize(("num_classes", "numbered"), [(20, True), (21, False), (100, False)])
def test_a_large_confusion_matrix_has_no_numbers(num_classes: int, numbered: bool) -> None:
    figure = confusion_figure(torch.eye(num_classes, dtype=torch.long), [str(name) for name in range(num_classes)])
    assert len(figure.axes[0].texts) == (num_classes if numbered else 0)
    assert figure.axes[0].images[0].get_array().shape == (num_classes, num_classes)
    assert max(figure.get_size_inches()) <= 11


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 36])
def test_a_grid_shows_all_images_whatever_their_range(count: int, channels: int) -> None:
    images = torch.randn(count, channels, 5, 5) * 7 - 3
    figure = image_grid(images, [str(number) for number in range(count)])
    assert titles(figure) == [str(number) for number in range(count)]
    drawn = np.stack([np.asarray(image.get_array()).reshape(5, 5, -1) for image in figure.axes[0].images])
    assert drawn.shape == (count, 5, 5, channels)
    for channel in range(channels):  # rescaled over all images together, so that they can be compared
        shown, given = drawn[..., channel].ravel(), images[:, channel].flatten().numpy()
        assert (shown.min(), shown.max()) == pytest.approx((0, 1))
        assert np.corrcoef(shown, given)[0, 1] == pytest.approx(1)


def test_a_constant_image_can_be_drawn() -> None:
    figure = image_grid(torch.full((1, 1, 4, 4), 3.0), ["flat"])
    assert np.isfinite(np.asarray(figure.axes[0].images[0].get_array())).all()


@pytest.mark.parametrize("num_images", [0, -1])
def test_a_grid_of_no_images_is_refused(num_images: int) -> None:
    with pytest.raises(ValueError, match=f"num_images={num_images} must be at least 1"):
        ImageReport(num_images)


def test_the_test_report_holds_confusions_and_mistakes(known: Known, trainer: Trainer, tmp_path: Path) -> None:
    model, data = known(LABELS, ANSWERS, num_classes=3, names=["cat", "dog", "owl"])
    trainer(ImageReport(2, str(tmp_path))).test(model, datamodule=data, verbose=False)
    (report,) = json.loads((tmp_path / "test_report.json").read_text())["heads"].values()
    assert report["classes"] == ["cat", "dog", "owl"] and report["panels"] == ["input"]
    assert report["counts"] == [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    mistakes = [(mistake["label"], mistake["predicted"], mistake["confidence"]) for mistake in report["mistakes"]]
    assert mistakes == [("dog", "owl", pytest.approx(0.95)), ("owl", "cat", pytest.approx(0.7))]
    pictures = [Image.open(io.BytesIO(base64.b64decode(one["png"]))) for one in report["mistakes"]]
    assert [np.asarray(picture).max() for picture in pictures] == [0, 255]  # pixels hold the index: 3 and 5


def test_a_file_that_is_not_a_test_report_is_not_overwritten(known: Known, trainer: Trainer, tmp_path: Path) -> None:
    model, data = known(labels=[0, 1], answers=[(0, 0.9), (0, 0.8)], num_classes=2)
    for _ in range(2):  # a new folder, then an existing report
        trainer(ImageReport(dirpath=str(tmp_path / "new" / "one"))).test(model, datamodule=data, verbose=False)
    path = tmp_path / "new" / "one" / "test_report.json"
    assert "heads" in json.loads(path.read_text())
    path.write_text('{"passed": 3}')
    with pytest.raises(ValueError, match=r"test_report\.json is not a test report and is not overwritten: choose"):
        trainer(ImageReport(dirpath=str(path.parent))).test(model, datamodule=data, verbose=False)
    assert path.read_text() == '{"passed": 3}'


def test_report_images_are_small_and_in_colour() -> None:
    (png,) = encode_pngs(torch.rand(1, 3, 200, 100))
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    assert picture.size == (32, 64) and picture.mode == "RGB" and len(png) < 12_000


# ---- rough edges


def test_classes_without_a_name_are_numbered(known: Known, trainer: Trainer, logger: TensorBoardLogger) -> None:
    model, data = known(LABELS, ANSWERS, num_classes=4, names=["cat", "dog", "owl"])
    trainer(ImageReport(), logger=logger).test(model, datamodule=data, verbose=False)


def test_a_datamodule_need_not_name_its_classes(known: Known, trainer: Trainer) -> None:
    class Plain(L.LightningDataModule):
        def test_dataloader(self) -> Any:
            data.setup("test")
            return data.test_dataloader()

    model, data = known(LABELS, ANSWERS, num_classes=3)
    trainer(ImageReport()).test(model, datamodule=Plain(), verbose=False)


def test_class_names_are_not_parsed_as_math() -> None:
    names = [r"$\foo$", "$x^2$"]
    for figure in (image_grid(torch.rand(2, 1, 4, 4), names), confusion_figure(torch.ones(2, 2), names)):
        figure.savefig(io.BytesIO())
