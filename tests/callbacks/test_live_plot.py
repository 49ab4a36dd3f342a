"""Curves in a notebook: what is displayed, and what it replaces."""

import base64
import io
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
from PIL import Image
from rich.console import Console

from src.callbacks import live_plot
from src.callbacks.live_plot import LivePlot
from src.callbacks.progress_bar import ProgressBar

pytest.importorskip("IPython", reason="a notebook needs the extra [notebook]")


class Notebook:
    """The outputs of a cell: what `display` shows, each in a place that can be updated."""

    def __init__(self) -> None:
        self.places: list[list[dict[str, Any]]] = []  # all that each has shown

    def display(self, data: dict[str, Any], raw: bool, display_id: bool) -> Any:
        assert raw and display_id
        place = [data]
        self.places.append(place)

        class Handle:
            def update(self, data: dict[str, Any], raw: bool) -> None:
                place.append(data)

        return Handle()


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    shown = Notebook()
    monkeypatch.setattr("IPython.display.display", shown.display)
    monkeypatch.setattr(live_plot, "MIN_INTERVAL", 0.0)
    return shown


def in_jupyter() -> tuple[ProgressBar, io.StringIO]:
    bar, screen = ProgressBar(refresh_per_second=1e9), io.StringIO()
    bar.console = Console(file=screen, force_jupyter=True)
    return bar, screen


def size(data: dict[str, Any]) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size


def test_a_run_in_a_notebook_draws_its_curves_in_one_place(
    notebook: Notebook, data: L.LightningDataModule, model: L.LightningModule, trainer: Callable[..., L.Trainer]
) -> None:
    bar, screen = in_jupyter()
    run = trainer(bar, max_epochs=3)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    texts, curves = notebook.places
    assert screen.getvalue() == ""
    assert len(curves) == 3 and all("image/png" in one for one in curves)
    width, height = size(curves[-1])
    assert width > height > 100  # loss and accuracy side by side
    lines = [text["text/plain"] for text in texts]
    assert lines[0] == "sanity check: 0/2" and "epoch 1/3: 4/4" in lines  # before the first epoch has ended, too
    assert any("epoch 1/3  train/loss" in line and "\nepoch 2/3: 4/4" in line for line in lines)
    assert lines[-1].startswith("epoch 3/3  train/loss") and "\n" not in lines[-1]


def test_an_interrupted_run_shows_what_it_has(
    notebook: Notebook,
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Callable[..., L.Trainer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_plot, "MIN_INTERVAL", 1e9)  # the second epoch is not drawn at once

    class Stop(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.current_epoch == 2:
                raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        trainer(in_jupyter()[0], Stop(), max_epochs=3).fit(model, datamodule=data)
    texts, curves = notebook.places
    assert len(curves) == 2 and texts[-1]["text/plain"].startswith("epoch 2/3  train/loss")


def test_short_epochs_are_not_all_drawn_but_the_last_is(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_plot, "MIN_INTERVAL", 1e9)
    plot = LivePlot()
    for epoch in range(1, 5):
        plot.add_epoch(epoch, {"train/loss": 1 / epoch}, [], f"epoch {epoch}")  # no score, no validation
    plot.end()
    (curves,) = [place for place in notebook.places if "image/png" in place[0]]
    assert len(curves) == 2
    plot.end()
    assert len(curves) == 2  # nothing new
