"""Every run has its own folder."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.run.directory import ExclusiveFolder, create_folder
from src.system.locks import locked


def test_a_folder_that_exists_is_never_taken(tmp_path: Path) -> None:
    wanted = tmp_path / "runs" / "now"
    assert [create_folder(wanted).name for _ in range(3)] == ["now", "now_2", "now_3"]


def choose(folder: Path, **values: str) -> None:
    """Start a run in a folder that the command line names."""
    said = {"hydra": [f"hydra.run.dir={folder}"], "task": []}
    config = OmegaConf.create({"hydra": {"run": {"dir": str(folder)}, "overrides": said}, **values})
    ExclusiveFolder().on_run_start(config)


@pytest.mark.parametrize("left", ["run.json", "checkpoints/last.ckpt", "checkpoints/last.ckpt.damaged"])
def test_a_folder_that_holds_a_run_is_for_going_on_alone(
    left: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a run"
    choose(folder)
    (folder / "checkpoints").mkdir(parents=True)
    choose(folder)  # it failed before it started
    (folder / left).write_text("{}")
    with pytest.raises(SystemExit):
        choose(folder)
    sentence = f"ERROR: {folder} already holds a run: use 'resume={folder}' or choose another folder.\n"
    assert capsys.readouterr().err == sentence
    choose(folder, resume=str(folder))
    (folder / "job.json").write_text("{}")  # a sweep's job, which the engine may start again
    choose(folder)


def test_neither_is_that_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(SystemExit):
        choose(tmp_path)
