"""Using the project from Python: `src/api.py` makes the same runs as the command line."""

import json
import logging
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from src import api
from src.api import Run, RunInterrupted, compose, load_run, runs, train
from src.callbacks.progress_bar import ProgressBar
from src.config.paths import ROOT
from src.run.calibration import write_temperatures
from tests.programs import run as run_program

WORDS = ["model=mnist_sdn_8k", "data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=96"]
WORDS += ["data.val_size=32", "data.test_size=48", "data.batch_size=16", "trainer.max_epochs=2", "trainer=cpu"]
WORDS += ["trainer.limit_test_batches=2", "logger=csv", "callbacks.model_summary=null"]
TIMINGS = ("epoch_seconds", "train_seconds", "images_per_second")


def state_of_the_process() -> tuple[Any, ...]:
    root = logging.getLogger()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    registered = {**ConfigStore.instance().repo}
    return [*sys.argv], root.handlers[:], root.level, handlers, GlobalHydra.instance().hydra, registered


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def run(logs: Path) -> Run:
    """A run trained from Python."""
    before = state_of_the_process()
    trained = train(*WORDS, f"paths.log_dir={logs}")
    assert state_of_the_process() == before
    return trained


def figures(folder: Path) -> dict[str, float]:
    return {name: value for name, value in load_run(folder).metrics.items() if name not in TIMINGS}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_run(one: Path, other: Path) -> None:
    assert figures(one) == figures(other) and len(figures(one)) > 8
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_from_python_is_that_of_the_command_line(run: Run, tmp_path: Path) -> None:
    result = run_program("train", *WORDS, f"hydra.run.dir={tmp_path}/cli")
    assert result.returncode == 0, result.stderr
    assert_same_run(run.folder, tmp_path / "cli")
    ours, theirs = (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in (run.folder, tmp_path / "cli")
    )
    assert ours == theirs and {"run.json", ".lock", ".hydra/overrides.yaml", "train.log", "metrics.json"} <= ours
    assert run.record["choices"] == load_run(tmp_path / "cli").record["choices"]
    program, *words = run.record["command"].split()
    assert (ROOT / program).samefile(ROOT / "src" / "train.py") and words[: len(WORDS)] == WORDS
    log = (run.folder / "train.log").read_text()
    assert "epoch 2/2" in log and "test: " in log


def test_an_interrupted_run_goes_on_from_the_command_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: ProgressBar, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 3:
            signal.raise_signal(signal.SIGINT)

    before = state_of_the_process()
    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_train_batch_end", interrupt)
        with pytest.raises(RunInterrupted) as caught:
            train(*WORDS, f"paths.log_dir={tmp_path}")
    assert state_of_the_process() == before
    folder = caught.value.folder
    assert f"train('resume={folder}')" in str(caught.value) and load_run(folder).metrics == {}
    assert f"python src/train.py 'resume={folder}'" in str(caught.value)
    result = run_program("train", f"resume={folder}")
    assert result.returncode == 0, result.stderr
    assert_same_run(folder, run.folder)
    assert train(f"resume={folder}").folder == folder  # from Python, too, if there is nothing left to do


def test_ctrl_c_before_there_is_anything_to_keep_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("src.run.instantiate.check_device", interrupt)
    before = state_of_the_process()
    with pytest.raises(KeyboardInterrupt):
        train(*WORDS, f"paths.log_dir={tmp_path}")
    assert state_of_the_process() == before


def test_a_failed_run_leaves_its_trace_and_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("src.run.instantiate.check_device", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        train(*WORDS, f"paths.log_dir={tmp_path}")
    (trace,) = tmp_path.glob("train/runs/*/traceback.txt")
    assert "in fail" in trace.read_text()
    with pytest.raises(FileNotFoundError, match="holds no run"):
        _ = Run(trace.parent).model


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=mnist_sdn_8"], "There is no model=mnist_sdn_8. Did you mean .*mnist_sdn_8k"),
        (["model.net.hiden_sizes=[3]"], "There is no model.net.hiden_sizes in the configuration. Did you mean"),
        (["trainer.max_epochs=many"], "it must be a number"),
        (["-m"], "-m is an option of the command line"),
        (["mnist_sdn_8k"], "mnist_sdn_8k has no key: write model=mnist_sdn_8k"),
        (["resume=/nowhere"], "this is not the folder of a run"),
    ],
    ids=["choice", "key", "type", "option", "word", "resume"],
)
@pytest.mark.parametrize("function", [train, compose], ids=["train", "compose"])
def test_a_wrong_word_is_answered_in_a_sentence(function: Callable[..., Any], words: list[str], sentence: str) -> None:
    before = state_of_the_process()
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as caught:
        function(*words)
    assert "\n" not in str(caught.value) and state_of_the_process() == before


def test_a_folder_that_holds_a_run_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="The run has not started"):
        train(*WORDS, f"hydra.run.dir={run.folder}")
    assert "already holds a run" in capsys.readouterr().err


def test_a_composed_configuration_can_be_changed(logs: Path) -> None:
    cfg = compose(*WORDS, f"paths.log_dir={logs}", "test=false")
    cfg.model.optimizer.lr, cfg.trainer.max_epochs, cfg.logger, cfg.tags = 0.01, 1, None, ["a b", "c"]
    changed = train(cfg)
    assert changed.config.model.optimizer.lr == 0.01 and changed.config.tags == ["a b", "c"]
    recorded = (changed.folder / ".hydra" / "overrides.yaml").read_text()
    assert "model.optimizer.lr=0.01" in recorded and "logger=none" in recorded
    table = runs(logs)
    assert table.loc[str(changed.folder), "model.optimizer.lr"] == "0.01"


def test_predictions_are_those_of_the_test(run: Run, tmp_path: Path) -> None:
    test = run.test_set()
    assert test.images.shape == (32, 1, 28, 28) and test.images.dtype == np.uint8  # two batches of 16
    predictions = run.predict(test.images, top=2)
    assert len(predictions) == 32 and predictions.probabilities.sum(axis=1) == pytest.approx(1)
    with torch.no_grad():
        expected = run.net(test.inputs).softmax(dim=1).numpy()
    assert predictions.probabilities == pytest.approx(expected, abs=1e-6)
    names = np.array(test.names["class"])
    assert (np.array(predictions.classes) == names[test.labels]).mean() == pytest.approx(run.metrics["test/acc"])
    assert list(predictions[0]) == ["class", "class_probability", "class_2", "class_2_probability"]
    assert predictions.classes == names[expected.argmax(axis=1)].tolist()

    Image.fromarray(test.images[0, 0]).save(tmp_path / "0.png")
    result = run_program(
        "predict",
        f"run_dir={run.folder}",
        f"input={tmp_path}/0.png",
        f"out={tmp_path}/0.json",
        f"hydra.run.dir={tmp_path}",
    )
    assert result.returncode == 0, result.stderr
    (row,) = json.loads((tmp_path / "0.json").read_text())
    assert run.predict(tmp_path / "0.png").rows == [row]


def test_runs_are_opened_by_folder_and_checkpoint_and_the_newest_without(
    run: Run, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = run.folder / "checkpoints" / "last.ckpt"
    assert load_run(last).checkpoint == last and load_run(last).folder == run.folder
    monkeypatch.setattr(api, "RUNS", logs)
    (logs / "train" / "runs" / "failed").mkdir()
    (logs / "train" / "runs" / "failed" / "run.json").write_text("{}")  # newer, without a checkpoint
    newest = load_run()
    assert newest.metrics and newest.folder.parent == run.folder.parent
    assert len(runs()) == len(runs(run.folder.parent)) >= 2
    monkeypatch.setattr(api, "ROOT", run.folder.parent)
    assert load_run(run.folder.name).folder == run.folder  # from whatever folder, such as notebooks/
    monkeypatch.setattr(api, "RUNS", logs / "none")
    with pytest.raises(FileNotFoundError, match="There is no run in"):
        load_run()
    with pytest.raises(FileNotFoundError, match="nope is not the folder of a run"):
        load_run("nope")


def test_without_pandas_the_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install -e '.[notebook]'")):
        runs(run.folder)


def test_damaged_runs_are_left_out_with_a_warning(run: Run, tmp_path: Path) -> None:
    (tmp_path / "good").symlink_to(run.folder)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("[")
    with pytest.warns(UserWarning, match="left out: .*bad"):
        table = runs(run.folder, tmp_path / "bad")
    assert list(table.index) == [str(run.folder)]
    assert table["test/acc"].iloc[0] == run.metrics["test/acc"] and table["model"].iloc[0] == "mnist_sdn_8k"


def test_a_run_from_elsewhere_builds_nothing_foreign(run: Run, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    (copied / ".hydra").mkdir(parents=True)
    (copied / "checkpoints").symlink_to(run.folder / "checkpoints")
    config = (run.folder / ".hydra" / "config.yaml").read_text()
    (copied / ".hydra" / "config.yaml").write_text(
        re.sub(r"_target_: src\.models\.comp\S+", "_target_: os.system", config)
    )
    with pytest.raises(ValueError, match=r"os\.system"):
        _ = load_run(copied).model


def test_the_page_does_what_it_says(logs: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    monkeypatch.setattr(api, "RUNS", logs)
    quicker = (
        f'"data=mnist_5k", "paths.log_dir={logs}", "trainer.limit_train_batches=4", "trainer.limit_val_batches=2",'
    )
    names: dict[str, Any] = {}
    for block in blocks:
        block = block.replace('"data=mnist_5k",', quicker).replace(
            '"seconds=0.1"', f'"seconds=0.02", "paths.log_dir={logs}"'
        )
        exec(block, names)
    assert names["exported"].predict(names["test"].images[:5]).probabilities == pytest.approx(
        names["run"].predict(names["test"].images[:5]).probabilities, abs=1e-4
    )
    assert "mnist_sdn_8k" in set(names["table"]["model"])


def test_nothing_is_exported_through_a_link(run: Run, tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(run.folder, folder)
    outside.mkdir()
    (folder / "export").symlink_to(outside)
    with pytest.raises(ValueError, match="export is a symbolic link"):
        load_run(folder).export("onnx", "fp32", "seconds=0.01")
    assert not any(outside.iterdir())


def test_the_card_of_a_runs_net_survives_what_lies_in_its_folder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    (folder / "checkpoints" / "gone.ckpt").symlink_to(tmp_path / "nowhere")
    (folder / "export" / "onnx_int8").mkdir(parents=True)
    record = json.loads((folder / "run.json").read_text())
    record["choices"]["model"] = "\x1b[31mred"
    (folder / "run.json").write_text(json.dumps(record))
    card = load_run(folder).card()
    assert card["name"] == "?[31mred" and card["totals"]["params"] == 7_973 and card["totals"]["int8_is_estimate"]
    assert any(note.startswith("int8: not measured.") for note in card["notes"])


def test_probabilities_are_calibrated_on_request(run: Run) -> None:
    images = run.test_set().images[:4]
    with pytest.raises(ValueError, match=r"src/explain\.py"):
        run.predict(images, calibrated=True)
    write_temperatures(run.checkpoint, {"clas": 2.0}, samples=100)
    with pytest.raises(ValueError, match="A temperature is given for clas, but the net outputs class"):
        run.predict(images, calibrated=True)
    write_temperatures(run.checkpoint, {"class": 2.0}, samples=100)
    plain, calibrated = (run.predict(images, calibrated=asked) for asked in (False, True))
    roots = np.sqrt(plain.probabilities)  # half of the logits
    np.testing.assert_allclose(calibrated.probabilities, roots / roots.sum(axis=1, keepdims=True), rtol=1e-5)
    assert calibrated.classes == plain.classes
    assert calibrated[0]["class_probability"] == pytest.approx(calibrated.probabilities[0].max(), abs=1e-4)
