"""What TensorBoard shows of a run, queried from its own server with the default loader."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest
import yaml
from omegaconf import DictConfig

from src.config.paths import ROOT
from src.train import train
from tests.conftest import TINY_RUN
from tests.programs import run

SMALL = (*TINY_RUN, "data=synthetic", "trainer.log_every_n_steps=1", "callbacks.model_summary=null")


class Board:
    """A TensorBoard that serves a folder."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "src.report.board", "--logdir", str(folder), "--port", "0"]
        self.process = subprocess.Popen([*command, "--host", "127.0.0.1"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.address = found[0]
                return
        raise AssertionError(said)

    def ask(self, path: str, body: Any = None, **query: str) -> Any:
        """Return its JSON response."""
        address = f"{self.address}/data/plugin/{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(address, data, {"Content-Type": "application/json"}), timeout=60) as answer:
            return json.load(answer)

    def curves(self, expected: str, step: int) -> dict[str, list[str]]:
        """The curves of each run, once the point written last has been read."""
        for _ in range(300):  # it reads while it serves
            found = self.ask("scalars/tags")
            written = [self.points(run, expected) for run, tags in found.items() if expected in tags]
            if any(points[-1][0] == step for points in written):
                return {run: list(tags) for run, tags in found.items()}
            time.sleep(0.1)
        raise AssertionError(f"{expected} never came; there are {found}")

    def points(self, run: str, tag: str) -> list[tuple[int, float]]:
        """A curve: (step, value)."""
        return [(step, value) for _, step, value in self.ask("scalars/scalars", run=run, tag=tag)]

    def rows(self, *metrics: str) -> list[dict[str, Any]]:
        """The rows of the HParams tab, with these metrics as columns."""
        question = {
            "experimentName": "",
            "allowedStatuses": ["STATUS_SUCCESS"],
            "colParams": [{"metric": {"tag": tag}} for tag in metrics],
            "startIndex": 0,
            "sliceSize": 9,
        }
        return self.ask("hparams/session_groups", question)["sessionGroups"]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Callable[[], Board]]:
    """Start a TensorBoard of the run in `tmp_path`."""
    boards: list[Board] = []

    def start() -> Board:
        boards.append(Board(tmp_path))
        return boards[-1]

    yield start
    for one in boards:
        one.process.terminate()
        one.process.communicate(timeout=60)


@pytest.mark.parametrize("resumed", [False, True])
def test_curves_are_whole_and_the_hparams_tab_compares_what_matters(
    resumed: bool, compose: Callable[..., DictConfig], board: Callable[[], Board], tmp_path: Path
) -> None:
    figures, _ = train(compose(*SMALL, f"trainer.max_epochs={2 if resumed else 4}"))
    if resumed:
        last = tmp_path / "checkpoints" / "last.ckpt"
        cfg = compose(*SMALL, "trainer.max_epochs=4", f"resume={tmp_path}", f"ckpt_path={last}")
        figures, _ = train(cfg)
    served = board()
    curves = served.curves("median/images_per_second", 12)
    assert list(curves) == ["tensorboard"]
    for name in ("val/acc", "val/loss", "train/loss", "train/acc"):
        points = served.points("tensorboard", name)
        assert [step for step, _ in points] == [2, 5, 8, 11], name
        assert points[-1][1] == pytest.approx(figures[name])
    assert [step for step, _ in served.points("tensorboard", "lr")] == list(range(12))
    assert not [name for name in curves["tensorboard"] if "pg1" in name or "AdamW" in name]

    columns = served.ask("hparams/experiment", {"experimentName": ""})
    metrics = [column["name"]["tag"] for column in columns["metricInfos"]]
    assert [column["displayName"] for column in columns["metricInfos"]][:3] == ["test/acc", "val/acc_best", "val/acc"]
    assert columns["hparamInfos"][0]["name"] == "model.optimizer.lr"  # the first ones are ticked
    (group,) = served.rows(*metrics)
    shown = {value["name"]["tag"].removeprefix("median/"): value["value"] for value in group["metricValues"]}
    assert shown == pytest.approx({name: figures[name].item() for name in shown})
    assert {"test/acc", "val/acc", "val/acc_best", "val/loss", "params", "epoch_seconds"} <= shown.keys()
    assert group["hparams"]["model.optimizer.lr"] == pytest.approx(0.001)
    assert group["hparams"]["trainer.max_epochs"] == 4
    assert yaml.safe_load((tmp_path / "tensorboard" / "hparams.yaml").read_text())["trainer.max_epochs"] == 4


def test_a_test_by_itself_is_no_row_of_the_hparams_tab(board: Callable[[], Board], tmp_path: Path) -> None:
    for program, *arguments in (("train", *SMALL), ("eval", f"run_dir={tmp_path}/train")):
        result = run(program, *arguments, f"hydra.run.dir={tmp_path}/{program}")
        assert result.returncode == 0, result.stderr
    served = board()
    served.curves("median/images_per_second", 3)
    assert "eval/tensorboard" in served.curves("test/acc", 0)
    assert [row["name"] for row in served.rows()] == ["train/tensorboard"]


def test_it_opens_on_the_scores_of_all_tasks_and_the_losses(board: Callable[[], Board]) -> None:
    served = board()
    with urlopen(served.address, timeout=60) as page:
        pinned = json.loads(parse_qs(urlsplit(page.url).query)["pinnedCards"][0])
        assert page.status == 200 and "text/html" in page.headers["Content-Type"]
    tags = [card["tag"] for card in pinned]
    assert tags[-2:] == ["train/loss", "val/loss"] and tags[0] == "val/acc" and "val/mse" in tags
