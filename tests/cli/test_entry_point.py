"""Errors are reported in one sentence."""

import errno
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue

from src.cli.entry_point import describe_background_errors
from src.cli.errors import describe
from src.config.paths import CONFIGS, ROOT
from src.system.locks import locked
from tests.data.conftest import write_photographs
from tests.programs import run


def no_space(path: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def test_a_full_disk_comes_with_a_way_out() -> None:
    assert describe(no_space("/a/b")).startswith("No space left on device for /a/b: free up space, or write elsewhere")
    assert describe(no_space()).startswith("No space left on device: free up space")


def test_a_value_that_is_not_given_is_named() -> None:
    cfg = OmegaConf.create({"input": "???", "net": {"_target_": "???"}})
    with pytest.raises(MissingMandatoryValue) as caught:
        _ = cfg.input
    assert describe(caught.value) == "input has no value: give input=…."
    with pytest.raises(MissingMandatoryValue) as caught:
        _ = cfg.net._target_
    assert describe(caught.value).startswith(
        "net._target_ has no value: give net._target_=…, or choose a file that sets it"
    )


@pytest.mark.parametrize(("key", "data"), [("length", "mnist_5k"), ("vocabulary_size", "mnist_5k_rows")])
def test_data_of_another_kind_than_the_model_reads_are_refused_in_a_sentence(key: str, data: str) -> None:
    model = "rows_lstm_64k" if key == "length" else "text_gru_64k"
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", [f"model={model}", f"data={data}"])
    with pytest.raises(InterpolationKeyError) as caught:
        OmegaConf.resolve(cfg.model)
    assert describe(caught.value) == (
        f"The model needs data.{key}, which these data do not have, because it takes another kind of input: choose "
        "other data or another model."
    )


class FullLog(logging.Handler):
    """A log on a full disk."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            raise no_space()
        except OSError:
            self.handleError(record)


@pytest.mark.parametrize("full", [False, True])
def test_threads_and_logs_leave_no_trace_unless_it_is_asked_for(full: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise no_space()

    before = threading.excepthook, logging.raiseExceptions
    seen: list[type | None] = []
    threading.excepthook = lambda fault: seen.append(fault.exc_type)
    try:
        with describe_background_errors(full):
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            FullLog().handle(logging.makeLogRecord({"msg": "lost"}))
    finally:
        threading.excepthook = before[0]
    errors = capsys.readouterr().err
    assert ("Logging error" in errors) == full
    assert seen == ([OSError] if full else [])
    assert errors.startswith("ERROR: No space left on device") != full
    assert (threading.excepthook, logging.raiseExceptions) == before


def test_other_faults_of_threads_are_told_in_full() -> None:
    seen: list[type | None] = []
    before, threading.excepthook = threading.excepthook, lambda fault: seen.append(fault.exc_type)
    try:
        with describe_background_errors(False):
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
    finally:
        threading.excepthook = before
    assert seen == [ZeroDivisionError]


@pytest.mark.parametrize("command", ["resume={}", "hydra.run.dir={} hydra.output_subdir=null"])
def test_who_finds_a_folder_in_use_writes_nothing_there(command: str, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    for name in (".hydra/overrides.yaml", "job.json", "run.json"):
        (tmp_path / name).write_text("{}" if name.endswith("json") else "[]")
    (tmp_path / "train.log").write_text("epoch 1\n")
    with locked(tmp_path):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        result = run("train", "data=synthetic", *command.format(tmp_path).split())
    assert result.returncode == 1
    assert result.stderr == f"ERROR: {tmp_path} is in use: another process is training there.\n"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_program_whose_output_is_no_longer_read_ends_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as pipe:
        command = [sys.executable, str(ROOT / "src" / "choose.py"), "images=10000"]
        ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_names_in_sentences_and_logs_tell_a_terminal_nothing(tmp_path: Path) -> None:
    assert describe(ValueError("a\x1b[2J\tb")) == "a?[2J   b"
    classes = {"\x1b[31mcats": 10, "[b]dogs": 100}
    write_photographs(tmp_path / "photos", classes, classes=list(classes))
    (tmp_path / "photos" / "[b]dogs" / "\x1b]0;x.png").write_bytes(b"no picture")
    folder = tmp_path / "a[" / "b]"
    options = ["data=image_folder", f"data.folder={tmp_path}/photos", "data.image_size=8", "model=simple_mlp"]
    options += ["trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1", f"hydra.run.dir={folder}"]
    refused = run("train", *options)
    assert "?]0;x.png cannot be read as an image" in refused.stderr and "\x1b" not in refused.stderr
    result = run("train", *options, "data.skip_unreadable=true")
    assert result.returncode == 0, result.stderr
    assert "left out: " in result.stderr and "?[31mcats" in result.stderr
    assert "\x1b" not in result.stderr + result.stdout + (folder / "train.log").read_text()
    assert f"run directory: {folder}" in result.stdout
