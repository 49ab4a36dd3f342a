"""Testing a trained net again, from its run directory or from a checkpoint alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY_RUN
from tests.programs import fresh, run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run of a net that is not the default one, on data that are not the default ones."""
    folder = tmp_path_factory.mktemp("run")
    overrides = ["model=mnist_cnn_8k", "data=synthetic", "data.channels=1", "data.image_size=28", "data.test_size=64"]
    overrides += [*TINY_RUN, f"hydra.run.dir={folder}"]
    result = run("train", *overrides)
    assert result.returncode == 0, result.stderr
    return folder


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_directory_is_enough(run_dir: Path, tmp_path: Path) -> None:
    result = fresh("eval", f"run_dir={run_dir}", f"hydra.run.dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert figures(tmp_path)["test/acc"] == figures(run_dir)["test/acc"]
    assert figures(tmp_path)["test/loss"] == pytest.approx(figures(run_dir)["test/loss"])


def test_the_runs_data_folder_is_kept(data_dir: Path, tmp_path: Path) -> None:
    trained = run("train", *TINY_RUN, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    assert trained.returncode == 0, trained.stderr
    result = run("eval", f"run_dir={tmp_path}/run", f"hydra.run.dir={tmp_path}/eval")
    assert result.returncode == 0, result.stderr
    assert figures(tmp_path / "eval")["test/acc"] == figures(tmp_path / "run")["test/acc"]


def test_a_checkpoint_alone_is_enough_and_overrides_win(run_dir: Path, tmp_path: Path) -> None:
    alone = shutil.copy(run_dir / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt")
    result = run("eval", f"ckpt_path={alone}", "data.batch_size=7", f"hydra.run.dir={tmp_path}/eval")
    assert result.returncode == 0, result.stderr
    saved = (tmp_path / "eval" / ".hydra" / "config.yaml").read_text()
    assert "batch_size: 7" in saved and "SimpleCNN" in saved


def test_data_chosen_on_the_command_line_replace_the_runs(run_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    result = run(
        "eval",
        f"run_dir={run_dir}",
        "data=mnist",
        "data.val_size=100",
        f"data.data_dir={data_dir}",
        f"hydra.run.dir={tmp_path}",
    )
    assert result.returncode == 0, result.stderr
    assert "MNISTDataModule" in (tmp_path / ".hydra" / "config.yaml").read_text()


MISTAKES = {
    "nothing said": ([], "either run_dir="),
    "both said": (["run_dir=a", "ckpt_path=b"], "either run_dir="),
    "no run": (["run_dir={tmp}"], "holds no run"),
    "no folder": (["run_dir={tmp}/none"], "is not a folder"),
    "no file": (["ckpt_path={tmp}/none.ckpt"], "is not a file"),
    "truncated": (["ckpt_path={tmp}/truncated.ckpt"], "truncated or damaged"),
    "a bit flipped": (["ckpt_path={tmp}/flipped.ckpt"], "the checksum of"),
    "no checkpoint": (["ckpt_path={tmp}/other.ckpt"], "is not a checkpoint of a run"),
    "unknown key": (["run_dir={run}", "data.batch=3"], "data.batch_size"),
    "another architecture": (["run_dir={run}", "model.net.hidden_size=9"], "is of another architecture: 3 of"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_a_sentence(name: str, run_dir: Path, tmp_path: Path) -> None:
    arguments, words = MISTAKES[name]
    (tmp_path / "truncated.ckpt").write_bytes((run_dir / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    content = bytearray((run_dir / "checkpoints" / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.ckpt").write_bytes(content)
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    result = run(
        "eval", *(text.format(tmp=tmp_path, run=run_dir) for text in arguments), f"hydra.run.dir={tmp_path}/eval"
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert words in result.stderr.splitlines()[0], result.stderr
