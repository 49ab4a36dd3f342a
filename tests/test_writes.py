"""No program follows a link out of a run's folder when it writes, whatever the name of the file."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from src.cli import entry_point as cli
from src.sweeps.launcher import console_to
from src.system.links import check_links
from tests.programs import run

SMALL = (
    "model=simple_mlp",
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.train_size=64",
    "data.val_size=32",
    "data.test_size=32",
    "data.batch_size=16",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "logger=many",
)
# besides the files of this run: those of other programs, sweeps, failures and resumed runs
FILES = (
    "traceback.txt",
    "console.log",
    "status.json",
    "job.json",
    "eval.log",
    "predictions.csv",
    "metrics_before_0.csv",
)
FILES += (
    "benchmark.json",
    "benchmark.png",
    "compare.html",
    "compare.csv",
    "card.md",
    "diagram.svg",
    "checkpoints/previous.ckpt",
    "0/train.log",
)
FILES += ("sweep.json", "multirun.yaml", "optimization_results.yaml", "study.journal", "0/checkpoints/last.ckpt")
FOLDERS = ("0", "0/checkpoints", "export", "int8", "wandb", ".launchers", ".submitit")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = run("train", *SMALL, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


def content(folder: Path) -> dict[Path, bytes]:
    """All files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def replaced(path: Path, target: Path) -> Iterator[None]:
    """Put a link in the place of a file or a folder within the context."""
    aside = path.with_name("aside")
    exists = path.exists()
    if exists:
        path.rename(aside)
    path.symlink_to(target)
    yield
    path.unlink()
    if exists:
        aside.rename(path)


def test_a_link_of_any_name_that_is_written_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for name in FOLDERS:
        (folder / name).mkdir()
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))] + list(FILES)
    assert {".hydra", ".lock", "train.log", "run.json", "metrics.json", "test_report.json", "checkpoints"} <= {*names}
    assert {"checkpoints/last.ckpt", "checkpoints/epoch_000.ckpt", "csv/metrics.csv", "tensorboard"} <= {*names}
    assert len(names) > 40
    check_links(folder)
    for name in names:
        refused = pytest.raises(ValueError, match=f"run/{re.escape(name)} is a symbolic link")
        with replaced(folder / name, tmp_path / "canary"), refused:
            check_links(folder)


def hollow_out(folder: Path, outside: Path, inner: bool) -> None:
    """Replace all files and folders of a run, or the contents of its folders, with links."""
    outside.mkdir()
    paths = list(folder.iterdir())
    if inner:
        paths = [path for parent in paths if parent.is_dir() for path in parent.iterdir()]
    for number, path in enumerate(sorted(paths)):
        path.rename(outside / str(number))
        path.symlink_to(outside / str(number))


COMMANDS = {
    "resume": ("train", ["resume={run}", "trainer.max_epochs=2"], False),
    "resume, links in folders": ("train", ["resume={run}", "trainer.max_epochs=2"], True),
    "train": ("train", [*SMALL, "hydra.run.dir={run}"], False),
    "sweep": ("train", ["-m", *SMALL, "seed=1,2", "hydra.sweep.dir={parent}"], False),
    "test": ("eval", ["run_dir={trained}", "hydra.run.dir={run}"], False),
    "compare": ("compare", ["runs=[{trained}]", "hydra.run.dir={run}"], False),
    "benchmark": ("benchmark", ["model=simple_mlp", "seconds=0.01", "hydra.run.dir={run}"], False),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_written_through_links(name: str, trained: Path, tmp_path: Path) -> None:
    program, arguments, inner = COMMANDS[name]
    folder, outside = tmp_path / "sweep" / "0", tmp_path / "outside"
    shutil.copytree(trained, folder)
    hollow_out(folder, outside, inner)
    before = content(outside)
    places = {"run": folder, "parent": folder.parent, "trained": trained}
    result = run(program, *(argument.format(**places) for argument in arguments))
    assert content(outside) == before
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.count("ERROR") == 1 and len(result.stderr.splitlines()) == 1
    assert f"{folder}/" in result.stderr and "is a symbolic link: a run writes only below its own" in result.stderr


def test_logs_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "logs").symlink_to("disk")
    result = run("train", *SMALL, f"paths.log_dir={tmp_path}/logs", "task_name=linked")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "logs" / "linked" / "runs").iterdir()
    assert (tmp_path / "disk" / folder.relative_to(tmp_path / "logs") / "metrics.json").is_file()
    result = run("train", f"resume={folder}", "trainer.max_epochs=2")
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "metrics.json").read_text())["epoch_seconds"] > 0
    assert len(list((folder / "checkpoints").glob("epoch_*.ckpt"))) == 1  # the best checkpoint is known, wherever it is


def test_exporting_leaves_what_it_has_not_written(trained: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(trained, folder)
    (outside / "onnx_fp32").mkdir(parents=True)
    (outside / "onnx_fp32" / "thesis.tex").write_text("mine")
    before = content(outside)
    options = ["formats=[onnx]", "precisions=[fp32]", f"hydra.run.dir={tmp_path}/exporting"]
    (folder / "export").symlink_to(outside)
    for words, further in (
        (f"{folder}/export is a symbolic link", []),
        (f"{outside}/onnx_fp32 holds thesis.tex, which no export has written", [f"folder={outside}"]),
    ):
        result = run("export", f"run_dir={folder}", *options, *further)
        assert result.returncode == 1 and words in result.stderr and "Traceback" not in result.stderr
        assert content(outside) == before


def test_a_trace_and_a_console_go_to_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    canary.write_text("mine")
    for name in ("traceback.txt", "console.log"):
        (tmp_path / name).symlink_to(canary)
    hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(tmp_path)))
    monkeypatch.setattr(cli.HydraConfig, "get", lambda: hydra)
    cli.report_failure(ValueError("a fault"))
    assert "ValueError: a fault" in (tmp_path / "traceback.txt").read_text()
    with pytest.raises(ValueError, match=r"console\.log is a symbolic link"), console_to(tmp_path / "console.log"):
        sys.__stdout__.write("more\n")
    assert canary.read_text() == "mine"


def test_a_prediction_writes_over_no_image(tmp_path: Path) -> None:
    photo, other = tmp_path / "photo.png", tmp_path / "by_another_name.png"
    Image.new("L", (8, 8)).save(photo)
    other.symlink_to(photo)
    before = photo.read_bytes()
    for sheet in (photo, other):
        words = [f"input={photo}", f"sheet={sheet}", "model=nowhere", f"hydra.run.dir={tmp_path}/log"]
        result = run("predict", *words)
        assert result.stderr.startswith(f"ERROR: sheet={sheet} is one of the inputs: name another file to write.\n")
    assert photo.read_bytes() == before
