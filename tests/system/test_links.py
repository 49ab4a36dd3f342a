"""Symbolic links that lead out of a run's folder are refused; those above it, and those of others in it, are not."""

import os
from pathlib import Path

import pytest

from src.system.links import check_links, open_to_append


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a file, neither of which is a run's."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("mine")
    return folder


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "checkpoints" / "deeper").mkdir(parents=True)
    (folder / "7" / "checkpoints").mkdir(parents=True)
    (folder / "run.json").touch()
    return folder


PLACES = ("train.log", "x.json", ".lock", "checkpoints/last.ckpt", "checkpoints/deeper/x", "0", "7/train.log")


@pytest.mark.parametrize("place", [*PLACES, "7/checkpoints/last.ckpt", "TRAIN.LOG"])
@pytest.mark.parametrize("target", ["file", "", "not/there"])
def test_a_link_that_leads_out_is_refused(place: str, target: str, run_dir: Path, outside: Path) -> None:
    check_links(run_dir)
    (run_dir / place).symlink_to(outside / target)
    with pytest.raises(ValueError, match=rf"run/{place} is a symbolic link: a run writes only below its own folder"):
        check_links(run_dir)


def test_a_relative_link_and_one_over_another_lead_out_too(run_dir: Path, outside: Path) -> None:
    (run_dir / "notes").symlink_to("..")
    (run_dir / "train.log").symlink_to("notes/outside/file")
    with pytest.raises(ValueError, match=r"run/train\.log is a symbolic link"):
        check_links(run_dir)


def test_the_folder_itself_and_those_above_it_may_be_links(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "logs").symlink_to(".")
    (tmp_path / "latest").symlink_to("run")
    (run_dir / "run.yaml").symlink_to(run_dir / "run.json")
    for folder in (tmp_path / "logs" / "run", tmp_path / "latest", tmp_path / "not there"):
        check_links(folder)


def test_what_no_run_writes_is_nobody_s_business_and_neither_is_a_link_that_stays_below(
    run_dir: Path, outside: Path
) -> None:
    (run_dir / "data").symlink_to(outside)
    (run_dir / "7" / "data").symlink_to(outside)
    (run_dir / "wandb").mkdir()
    (run_dir / "wandb" / "latest-run").symlink_to("offline-run-1")  # which W&B makes
    (run_dir / "checkpoints" / "best.ckpt").symlink_to(run_dir / "checkpoints" / "epoch_000.ckpt")
    check_links(run_dir)
    with pytest.raises(ValueError, match="run/data is a symbolic link"):
        check_links(run_dir, {"data"})


def test_a_pipe_that_would_block_is_refused(run_dir: Path) -> None:
    os.mkfifo(run_dir / "train.log")
    with pytest.raises(ValueError, match=r"run/train\.log is neither a file nor a folder: delete it"):
        check_links(run_dir)


def test_a_file_is_written_to_at_its_end_and_a_link_not_at_all(run_dir: Path, outside: Path) -> None:
    for text in ("one ", "two"):
        with open_to_append(run_dir / "console.log") as file:
            file.write(text)
    assert (run_dir / "console.log").read_text() == "one two"
    (run_dir / ".lock").symlink_to(outside / "file")
    (run_dir / "new").symlink_to(outside / "new")
    for name in (".lock", "new"):
        with pytest.raises(ValueError, match=f"run/{name} is a symbolic link"):
            open_to_append(run_dir / name)
    assert (outside / "file").read_text() == "mine" and not (outside / "new").exists()
    with pytest.raises(IsADirectoryError):
        open_to_append(run_dir / "checkpoints")
