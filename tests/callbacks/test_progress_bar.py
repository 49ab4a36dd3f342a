"""The progress bar: a line per epoch in a file, a bar on a terminal, and nothing if it is disabled."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
from rich.console import Console

from src.callbacks.progress_bar import ProgressBar
from src.run.record import RunRecord

COLUMNS = ("train/loss", "train/acc", "val/loss", "val/acc", "images_per_second", "epoch_seconds")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
NUMBER = r"(\d{1,2}\.\d{4}|\d{1,3}(,\d{3})*)"  # thousands are grouped and have no decimals


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables with which CI services make rich treat any output as a terminal."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Return the callback that measures the last columns of the line."""
    return RunRecord(str(tmp_path_factory.mktemp("run")), {}, {})


def on_terminal() -> tuple[ProgressBar, io.StringIO]:
    bar, screen = ProgressBar(refresh_per_second=1e9), io.StringIO()
    bar.console = Console(file=screen, force_terminal=True, width=200)
    return bar, screen


def visible(screen: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


# ---- in a file, a pipe, CI


def test_without_a_terminal_each_epoch_is_one_line_of_metrics(
    data: L.LightningDataModule,
    model: L.LightningModule,
    record: RunRecord,
    trainer: Callable[..., L.Trainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = trainer(ProgressBar(), record, max_epochs=3)
    run.fit(model, datamodule=data)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        columns = "  ".join(f"{name} {NUMBER}" for name in COLUMNS)
        assert re.fullmatch(f"epoch {number}/3  {columns}", line)
    for name in ("train/loss", "train/acc", "val/loss", "val/acc"):
        assert f"{name} {run.callback_metrics[name]:.4f}" in lines[-1]


def test_epochs_that_are_not_validated_show_no_older_validation(
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Callable[..., L.Trainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer(ProgressBar(), max_epochs=4, check_val_every_n_epoch=2).fit(model, datamodule=data)
    assert ["val/" in line for line in capsys.readouterr().out.splitlines()] == [False, True, False, True]


def test_each_line_shows_the_metrics_of_its_epoch(
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Callable[..., L.Trainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Losses(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, *_: object) -> None:
            if "train/loss" in trainer.callback_metrics:  # of the epoch before
                losses.append(f"train/loss {trainer.callback_metrics['train/loss']:.4f}")

        on_train_end = on_train_epoch_start

    losses: list[str] = []
    trainer(ProgressBar(), Losses(), max_epochs=2).fit(model, datamodule=data)
    lines = capsys.readouterr().out.splitlines()
    assert [loss in line for loss, line in zip(losses, lines, strict=True)] == [True, True]
    assert losses[0] not in lines[1]


def test_large_values_are_grouped_and_small_ones_have_decimals(
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Callable[..., L.Trainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Figures(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.log_dict({"images_per_second": 12345.6, "epoch_seconds": 99.5})

    trainer(ProgressBar(), Figures()).fit(model, datamodule=data)
    assert capsys.readouterr().out.endswith("images_per_second 12,346  epoch_seconds 99.5000\n")


def test_a_test_prints_no_line(
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Callable[..., L.Trainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = trainer(ProgressBar())
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_second_fit_prints_only_its_new_epochs(
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Callable[..., L.Trainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = trainer(ProgressBar(), max_epochs=2)
    run.fit(model, datamodule=data)
    capsys.readouterr()
    run.fit_loop.max_epochs = 3
    run.fit(model, datamodule=data)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["3/3"]


def test_a_run_resumed_from_a_checkpoint_prints_only_its_own_epochs(
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Callable[..., L.Trainer],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    first = trainer(max_epochs=1)
    first.fit(model, datamodule=data)
    first.save_checkpoint(tmp_path / "last.ckpt")
    trainer(ProgressBar(), max_epochs=3).fit(model, datamodule=data, ckpt_path=tmp_path / "last.ckpt")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["2/3", "3/3"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_disabled_bar_is_silent_until_it_is_enabled(
    terminal: bool,
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Callable[..., L.Trainer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar, screen = on_terminal() if terminal else (ProgressBar(), io.StringIO())
    bar.disable()
    run = trainer(bar)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    assert capsys.readouterr().out + screen.getvalue() == ""
    bar.enable()
    trainer(bar).fit(model, datamodule=data)
    assert "epoch 1/1" in capsys.readouterr().out + visible(screen)


# ---- on a terminal


def test_on_a_terminal_the_bar_moves_and_the_lines_stay(
    data: L.LightningDataModule, model: L.LightningModule, trainer: Callable[..., L.Trainer]
) -> None:
    bar, screen = on_terminal()
    run = trainer(bar, max_epochs=2)
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    text = visible(screen)
    for label, total in (("sanity check", 2), ("epoch 1/2", 4), ("epoch 2/2", 4), ("validation", 2), ("test", 2)):
        for done in range(1, total + 1):
            assert re.search(rf"{label} +[━╸╺ ]+ {done}/{total} ", text), f"{label} never stood at {done}/{total}"
    assert len(re.findall(r"epoch \d/2  train/loss", text)) == 2
    assert screen.getvalue().rfind(SHOW_CURSOR) > screen.getvalue().rfind(HIDE_CURSOR)


def test_the_bar_is_not_redrawn_more_often_than_configured(
    data: L.LightningDataModule, model: L.LightningModule, trainer: Callable[..., L.Trainer]
) -> None:
    bar, screen = on_terminal()
    rarely = ProgressBar(refresh_per_second=1e-9)
    rarely.console = Console(file=io.StringIO(), force_terminal=True, width=200)
    for callback in (bar, rarely):
        trainer(callback).fit(model, datamodule=data)
    assert "3/4" in visible(screen)
    assert "3/4" not in visible(rarely.console.file)  # type: ignore[arg-type]


def test_an_error_restores_the_terminal(
    data: L.LightningDataModule, model: L.LightningModule, trainer: Callable[..., L.Trainer]
) -> None:
    class Fault(L.Callback):
        def on_train_batch_start(self, *_: object) -> None:
            raise RuntimeError("a fault")

    bar, screen = on_terminal()
    with pytest.raises(RuntimeError, match="a fault"):
        trainer(bar, Fault()).fit(model, datamodule=data)
    assert HIDE_CURSOR in screen.getvalue()
    assert screen.getvalue().rfind(SHOW_CURSOR) > screen.getvalue().rfind(HIDE_CURSOR)


def test_a_validation_alone_restores_the_terminal(
    data: L.LightningDataModule, model: L.LightningModule, trainer: Callable[..., L.Trainer]
) -> None:
    bar, screen = on_terminal()
    try:
        trainer(bar).validate(model, datamodule=data, verbose=False)
        assert screen.getvalue().rfind(SHOW_CURSOR) > screen.getvalue().rfind(HIDE_CURSOR)
    finally:
        bar.on_exception()  # a live bar redirects stdout


def test_a_validation_within_an_epoch_returns_to_its_bar(
    data: L.LightningDataModule, model: L.LightningModule, trainer: Callable[..., L.Trainer]
) -> None:
    bar, screen = on_terminal()
    trainer(bar, val_check_interval=0.5).fit(model, datamodule=data)
    assert not re.search(r"validation[^\n]* [34]/2 ", visible(screen))
