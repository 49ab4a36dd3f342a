"""Confusions by class, and the number of mistakes on a page."""

import json
from pathlib import Path

import pytest

from src.report.confusions import MAX_MISTAKES, MIN_MISTAKES, confusion, mistakes_shown
from src.report.runs import find_runs
from tests.report.conftest import MakeRun


def test_a_class_without_images_is_neither_right_nor_wrong() -> None:
    shown = confusion({"classes": ["a", "b", "c"], "counts": [[3, 1, 0], [0, 0, 0], [1, 1, 0]]})
    assert [row["accuracy"] for row in shown["rows"]] == [0.75, None, 0]
    assert [row["name"] for row in shown["hardest"]] == ["c", "a"]
    assert shown["rows"][0]["cells"] == [(3, 0.75), (1, 0.25), (0, 0)]


@pytest.mark.parametrize(("classes", "drawn"), [(20, False), (21, True), (100, True)])
def test_many_classes_are_a_picture(classes: int, drawn: bool) -> None:
    counts = [[int(row == column) for column in range(classes)] for row in range(classes)]
    shown = confusion({"classes": [str(number) for number in range(classes)], "counts": counts})
    assert (shown["picture"] is not None) == drawn


@pytest.mark.parametrize(
    ("size", "shown"),
    [(1000, MAX_MISTAKES), (2000, MAX_MISTAKES // 2), (24_000, MIN_MISTAKES)],
)
def test_pictures_that_are_too_heavy_for_a_page_are_fewer(
    size: int, shown: int, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.report.confusions.PICTURE_BUDGET", 1000 * MAX_MISTAKES)
    mistake = {"label": "a", "predicted": "b", "confidence": 0.5, "png": "x" * size}
    head = {"classes": [], "counts": [], "mistakes": [mistake] * (MAX_MISTAKES + 12)}
    (make_run("a") / "test_report.json").write_text(json.dumps({"heads": {"test": head}}))
    assert mistakes_shown(find_runs([str(tmp_path)]).runs) == shown
