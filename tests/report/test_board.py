"""The curves that TensorBoard shows first."""

from pathlib import Path

from src.report.board import pinned_tags


def test_the_score_of_each_task_is_pinned_once(tmp_path: Path) -> None:
    tasks = {
        "a": "score: acc\nmode: max",
        "b": "defaults: [a]\nloss_weights: ???",
        "c": "score: miou",
        "d": "score: acc",
    }
    for name, text in tasks.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    assert pinned_tags(tmp_path) == ["val/acc", "val/miou", "train/loss", "val/loss"]
