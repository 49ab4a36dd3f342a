"""Randomly damaged run folders: the comparison finishes, names the damaged runs, and shows all others."""

import json
import os
import random
from pathlib import Path
from typing import Any

import yaml

from src.report.run_files import KINDS, METRICS, RECORD, TEST_REPORT, TRACEBACK
from src.run.file_names import JOB
from tests.programs import fresh
from tests.report.conftest import MakeRun

GOOD = 3  # number of intact runs
BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
CONTENTS = [
    b"",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"seed": ' + b"9" * 5_000 + b"}",
    BOMB.encode(),
    ("- " + BOMB.replace("\n", "\n  ")).encode(),
    b"- !!python/object/apply:os.abort []",
    b"&a [*a]",
    b"[NaN, Infinity]",
    b"null",
    b"x" * 3_000_000,
    b"{}",
]
NUMBERS: list[Any] = [True, -1, 0, 10**19, 10**400, 1e308, -1e308, 5e-324, 1.5, float("nan"), float("inf")]
TEXTS = [
    "",
    "\x1b[2J",
    "\ud800",
    "-9999-99-99T99:99:99",
    "x" * 5_000,
    "sqlite:////dev/zero",
    "\0",
    "running",
    "</script>",
]
NESTED: list[Any] = [None, [], [[]], {}, {"a": {}}, {"test": []}, [{"png": 1}], ["a=1", "b"], ["finished"]]
VALUES = [*NUMBERS, *TEXTS, *NESTED]
METRIC_NAMES = (
    "test/acc",
    "val/acc",
    "params",
    "macs",
    "epochs",
    "best_epoch",
    "epoch_seconds",
    "train_seconds",
    "latency_ms",
)
READ = {name: [(key,) for key in kinds] for name, kinds in KINDS.items()}
READ[METRICS] = [(key,) for key in METRIC_NAMES]
READ[RECORD] += [("choices", "model"), ("choices", "data"), ("packages", "torch"), ("data", "test")]
READ[JOB] += [("study", "storage"), ("study", "name"), ("study", "objectives")]
READ[TEST_REPORT] = [
    ("heads",),
    ("heads", "test"),
    *(("heads", "test", key) for key in ("classes", "counts", "mistakes", "panels")),
    *(("heads", "image", key) for key in ("classes", "counts", "mistakes", "panels")),
]


def keys(node: Any) -> list[tuple[Any, Any]]:
    """Every place (container, key) in nested values."""
    if not isinstance(node, dict | list):
        return []
    own = list(node if isinstance(node, dict) else range(len(node)))
    return [place for key in own for place in [(node, key), *keys(node[key])]]


def replace(path: Path, generator: random.Random) -> None:
    """Replace a file by something that is not a regular file, or not one of ours."""
    path.unlink()
    kind = generator.choice(["pipe", "folder", "loop", "endless", "dangling", "content"])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "content":
        path.write_bytes(generator.choice(CONTENTS))
    else:
        path.symlink_to({"loop": path.name, "endless": "/dev/zero", "dangling": "nowhere"}[kind])


def change(path: Path, generator: random.Random) -> None:
    """Damage a file of a run: its values, its bytes, or its type."""
    way = generator.randrange(4)
    if way == 0:
        replace(path, generator)
    elif way == 1:
        content = path.read_bytes()
        place = generator.randrange(len(content) + 1)
        path.write_bytes(content[:place] + generator.randbytes(generator.randrange(5)) + content[place + 3 :])
    elif path.suffix in (".json", ".yaml"):
        content = yaml.safe_load(path.read_text())
        container, key = generator.choice(keys(content))
        container[key] = generator.choice(VALUES)
        path.write_text(json.dumps(content))


def make(make_run: MakeRun, number: int, *overrides: str, status: str = "finished", acc: float = 0.5) -> Path:
    """Write the folder of a job with all files that a comparison reads."""
    study = {"storage": "sqlite:////nowhere/x.db", "name": "mine", "objectives": ["acc"]}
    metrics = {"params": 8.0, "epochs": 3.0, "epoch_seconds": 2.0}
    folder = make_run(f"sweep/{number}", *overrides, status=status, study=study, test__acc=acc, **metrics)
    head = {"classes": ["a", "b"], "counts": [[1, 2], [3, 4]]}
    head["mistakes"] = [{"label": "a", "predicted": "b", "confidence": 0.5, "png": "aGk="}]
    image = {"panels": ["input", "output"], "mistakes": [{"caption": "mse 0.1", "mse": 0.1, "png": "aGk="}]}
    (folder / TEST_REPORT).write_text(json.dumps({"heads": {"test": head, "image": image}}))
    (folder / TRACEBACK).write_text("Traceback\nValueError: x")
    measured = {"model": "m", "macs": 1, "params": 2, "latency_ms_p50": 3}
    (folder / "benchmark.json").write_text(json.dumps({"models": [measured]}))
    (folder / "csv").mkdir()
    (folder / "csv" / "metrics.csv").write_text("epoch,val/acc\n0,0.5\n1,0.6\n")
    return folder


def check(make_run: MakeRun, folder: Path, least: int) -> None:
    """Compare all runs and some intact ones: no error, intact ones shown, at least a number reported as damaged."""
    for number in range(GOOD):
        make(make_run, number, f"model.net.good={number}")
    result = fresh("compare", f"runs=[{folder}]", f"paths.log_dir={folder}", f"folder={folder}", timeout=120)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    page = (folder / "compare.html").read_text()
    assert all(f"model.net.good={number} " in page for number in range(GOOD))
    assert result.stdout.count("left out: ") == 41  # the last one gives the number of further runs
    assert page.count(f"<li>{folder}") >= least


def test_whatever_is_in_folders_of_runs_the_others_are_compared(make_run: MakeRun, tmp_path: Path) -> None:
    generator = random.Random(0)
    for number in range(GOOD, 400):
        status = generator.choice(["finished", "failed", "running"])
        folder = make(make_run, number, f"model.optimizer.lr={number}", status=status, acc=generator.random())
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in generator.sample(files, generator.randint(1, 2)):
            change(path, generator)
    check(make_run, tmp_path, least=100)


def test_whatever_stands_at_a_key_that_is_read_the_others_are_compared(make_run: MakeRun, tmp_path: Path) -> None:
    places = [(name, keys, value) for name, read in READ.items() for keys in read for value in VALUES]
    for number, (name, (*above, key), value) in enumerate(places, GOOD):
        path = make(make_run, number, f"model.optimizer.lr={number}") / name
        content = node = json.loads(path.read_text())
        for outer in above:
            node = node.setdefault(outer, {})
        node[key] = value
        path.write_text(json.dumps(content))
    telling = [place for place in places if place[0] != TEST_REPORT]  # a damaged test report does not damage the run
    check(make_run, tmp_path, least=2 * len(telling) // 5)
