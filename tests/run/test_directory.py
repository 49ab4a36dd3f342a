"""Folders of runs are their own."""

from pathlib import Path

from src.run.directory import create_folder


def test_a_folder_that_exists_is_never_taken(tmp_path: Path) -> None:
    wanted = tmp_path / "runs" / "now"
    assert [create_folder(wanted).name for _ in range(3)] == ["now", "now_2", "now_3"]
