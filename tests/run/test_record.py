"""The record of a run: run.json, the configuration in its checkpoints, and its speed."""

import itertools
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from src.report.run_files import read_object
from src.run import record as run_record
from src.run.record import RunRecord

Trainer = Callable[..., L.Trainer]
CONFIG = {"model": {"net": {"sizes": [1, 2.5]}}, "seed": 42, "tags": ["a"], "path": "${paths.data_dir}", "none": None}


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(str(tmp_path / "new" / "run"), CONFIG, {"seed": 42, "choices": {"model": "small"}})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by a second at every reading."""
    ticks = itertools.count()
    monkeypatch.setattr(run_record, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


def test_a_run_writes_down_what_it_runs_on_before_it_begins(
    record: RunRecord, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer
) -> None:
    class Look(L.Callback):
        def on_sanity_check_start(self, *_: Any) -> None:
            seen.update(json.loads((record.folder / "run.json").read_text()))

    seen: dict[str, Any] = {}
    trainer(record, Look()).fit(model, datamodule=data)
    assert seen["seed"] == 42
    assert seen["choices"] == {"model": "small"}
    assert seen["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert seen["threads"] == torch.get_num_threads()
    assert {"started", "command", "git_commit", "git_dirty", "python", "platform", "cpu", "cpus"} <= seen.keys()


@pytest.mark.parametrize(("status", "dirty"), [(None, None), ("", False), (" M src/train.py", True)])
def test_without_git_it_is_unknown_whether_the_code_was_changed(
    status: str | None, dirty: bool | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_record, "git", lambda *_: status)
    environment = run_record.environment()
    assert environment["git_dirty"] is dirty
    (tmp_path / "run.json").write_text(json.dumps(environment))
    assert read_object(tmp_path, "run.json")["git_dirty"] is dirty


@pytest.mark.parametrize("is_global_zero", [True, False])
def test_rank_zero_alone_asks_git(
    is_global_zero: bool, record: RunRecord, model: L.LightningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(run_record, "git", lambda *arguments: asked.append(arguments))
    trainer = SimpleNamespace(datamodule=None, world_size=2, is_global_zero=is_global_zero)
    record.setup(trainer, model, "fit")  # type: ignore[arg-type]
    assert bool(asked) == is_global_zero


def test_the_log_holds_a_command_that_can_be_pasted(
    record: RunRecord,
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Trainer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed = ["src/train.py", "data.folder='/a b/$x'", "tags=[a, b]"]
    monkeypatch.setattr("sys.argv", typed)
    with caplog.at_level("INFO", "journal"):
        trainer(record).fit(model, datamodule=data)
    (line,) = [message for message in caplog.messages if message.startswith("command: ")]
    assert shlex.split(line) == ["command:", "python", *typed]


def test_what_is_changed_when_a_run_is_resumed_is_recorded(
    data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer, tmp_path: Path
) -> None:
    for config, resumed in (({"seed": 1}, False), ({"seed": 1}, True), ({"seed": 1, "lr": 0.5}, True)):
        trainer(RunRecord(str(tmp_path), config, {"seed": 1}, resumed)).fit(model, datamodule=data)
    entries = json.loads((tmp_path / "run.json").read_text())["resumed"]
    assert [entry.get("changed") for entry in entries] == [None, {"lr": ["not there", 0.5]}]


def test_data_are_put_on_record_by_their_checksums_where_they_have_any(
    record: RunRecord, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer, tmp_path: Path
) -> None:
    class Plain(L.LightningDataModule):
        def train_dataloader(self) -> Any:
            return data.train_dataloader()

    trainer(record).fit(model, datamodule=data)
    assert json.loads((record.folder / "run.json").read_text())["data"] == data.checksums() != {}
    plain = RunRecord(str(tmp_path / "plain"), CONFIG, {})
    trainer(plain).fit(model, datamodule=Plain())
    assert json.loads((plain.folder / "run.json").read_text())["data"] == {}


def test_the_test_after_training_belongs_to_the_same_run(
    record: RunRecord, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer
) -> None:
    run = trainer(record)
    run.fit(model, datamodule=data)
    (record.folder / "run.json").write_text("of the training")
    run.test(model, datamodule=data, verbose=False)
    assert (record.folder / "run.json").read_text() == "of the training"


def test_a_test_by_itself_has_a_record_of_its_own(
    record: RunRecord, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer
) -> None:
    trainer(record).test(model, datamodule=data, verbose=False)
    assert json.loads((record.folder / "run.json").read_text())["seed"] == 42
    assert record.timing_metrics() == {}


def test_a_checkpoint_holds_the_configuration_and_loads_without_running_code(
    record: RunRecord, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer, tmp_path: Path
) -> None:
    checkpoints = ModelCheckpoint(tmp_path / "checkpoints", filename="best", save_last=True)
    trainer(record, checkpoints, enable_checkpointing=True).fit(model, datamodule=data)
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = torch.load(tmp_path / "checkpoints" / name, weights_only=True)
        assert checkpoint["config"] == CONFIG
        assert checkpoint["state_dict"].keys() == model.state_dict().keys()


@pytest.mark.usefixtures("clock")
def test_an_epoch_s_time_includes_validation_and_its_speed_does_not(
    record: RunRecord, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer
) -> None:
    run = trainer(record, max_epochs=2)
    run.fit(model, datamodule=data)
    # an epoch reads the clock four times: start, start and end of validation, end. 32 images in 3 - 1 seconds
    assert record.epoch_seconds == [3, 3]
    assert record.images_per_second == [16, 16]
    assert run.callback_metrics["epoch_seconds"] == 3
    assert run.callback_metrics["images_per_second"] == 16


@pytest.mark.usefixtures("clock")
def test_each_validation_of_an_epoch_is_left_out_of_its_speed(
    record: RunRecord, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer
) -> None:
    trainer(record, val_check_interval=0.5).fit(model, datamodule=data)
    assert record.epoch_seconds == [5]
    assert record.images_per_second == [32 / (5 - 2)]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("broken_after", [1, 3])
def test_an_epoch_that_was_broken_off_keeps_its_time_and_images(
    broken_after: int,
    data: L.LightningDataModule,
    model: L.LightningModule,
    trainer: Trainer,
    tmp_path: Path,
) -> None:
    class Break(L.Callback):
        def on_train_batch_end(self, run: L.Trainer, *_: Any) -> None:
            if run.global_step == broken_after:
                run.save_checkpoint(tmp_path / "amid.ckpt")
                raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        trainer(RunRecord(str(tmp_path), CONFIG, {}), Break()).fit(model, datamodule=data)
    record = RunRecord(str(tmp_path), CONFIG, {})
    trainer(record, max_epochs=2).fit(model, datamodule=data, ckpt_path=tmp_path / "amid.ckpt", weights_only=True)
    # 1 second before the interruption and 3 after it, including 1 of validation: 32 images in all
    assert record.epoch_seconds == [4, 3]
    assert record.images_per_second == [32 / 3, 16]


def test_a_checkpoint_that_is_tested_does_not_turn_back_the_clock(
    record: RunRecord, data: L.LightningDataModule, model: L.LightningModule, trainer: Trainer, tmp_path: Path
) -> None:
    class SaveFirst(L.Callback):
        def on_train_epoch_start(self, run: L.Trainer, *_: Any) -> None:
            if run.current_epoch == 1:
                run.save_checkpoint(tmp_path / "first.ckpt")

    run = trainer(record, SaveFirst(), max_epochs=3)
    run.fit(model, datamodule=data)
    figures = record.timing_metrics()
    run.test(model, datamodule=data, ckpt_path=tmp_path / "first.ckpt", weights_only=True, verbose=False)
    assert record.timing_metrics() == figures and figures["epochs"] == 3


def test_a_state_that_is_loaded_before_a_stage_is_set_up_is_ignored(record: RunRecord) -> None:
    record.load_state_dict({"epoch_seconds": [1.0], "images_per_second": [1.0]})
    assert record.timing_metrics() == {}


@pytest.mark.usefixtures("clock")
def test_the_images_that_are_counted_are_those_of_the_batches(
    record: RunRecord, data: Any, model: L.LightningModule, trainer: Trainer
) -> None:
    data.batch_size, data.drop_last = 12, False  # 32 images: 12, 12, 8
    trainer(record, limit_val_batches=0).fit(model, datamodule=data)
    assert record.images_per_second == [32]
    trainer(record, limit_val_batches=0, limit_train_batches=2).fit(model, datamodule=data)
    assert record.images_per_second == [32, 24]


def test_the_figures_of_a_run_are_those_of_its_median_epoch(record: RunRecord) -> None:
    record.epoch_seconds = [60.0, 2.0, 4.0]  # the first epoch warms up
    record.images_per_second = [1.0, 50.0, 30.0]
    expected = {"epoch_seconds": 4, "images_per_second": 30, "epochs": 3, "train_seconds": 66}
    assert record.timing_metrics() == expected


def test_a_run_without_epochs_has_no_figures(record: RunRecord) -> None:
    assert record.timing_metrics() == {}
