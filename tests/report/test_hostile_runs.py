"""Folders of runs that were changed at random: the comparison ends, names what is damaged, and shows all other runs."""

import json
import os
import random
from pathlib import Path
from typing import Any

import yaml

from tests.programs import fresh
from tests.report.conftest import MakeRun

RUNS, GOOD = 400, 3
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
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    10**19,
    10**400,
    1e308,
    -1e308,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    "\x1b[2J",
]
VALUES += [
    "\ud800",
    "-9999-99-99T99:99:99",
    "x" * 5_000,
    "/dev/zero",
    "sqlite:////dev/zero",
    "\0",
    [],
    [[]],
    {},
    {"a": {}},
]
VALUES += [{"test": []}, [{"png": 1}], ["a=1", "b"], "finished", "running", ["finished"], "</script>"]


def keys(node: Any) -> list[tuple[Any, Any]]:
    """Every place (container, key) in nested values."""
    if not isinstance(node, dict | list):
        return []
    own = list(node if isinstance(node, dict) else range(len(node)))
    return [place for key in own for place in [(node, key), *keys(node[key])]]


def replace(path: Path, generator: random.Random) -> None:
    """Put something in the place of a file that is no file, or none of ours."""
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
    """Change a file of a run: values in it, its bytes, or what it is."""
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


def test_whatever_is_in_folders_of_runs_the_others_are_compared(make_run: MakeRun, tmp_path: Path) -> None:
    generator = random.Random(0)
    head = {"classes": ["a", "b"], "counts": [[1, 2], [3, 4]]}
    head["mistakes"] = [{"label": "a", "predicted": "b", "confidence": 0.5, "png": "aGk="}]
    study = {"storage": "sqlite:////nowhere/x.db", "name": "mine", "objectives": ["acc"]}
    for number in range(RUNS + GOOD):
        changed = number >= GOOD
        folder = make_run(
            f"sweep/{number}",
            *([f"model.optimizer.lr={number}"] if changed else [f"model.net.good={number}"]),
            status=generator.choice(["finished", "failed", "running"]) if changed else "finished",
            study=study if changed else None,
            test__acc=generator.random(),
            params=8.0,
            epochs=3.0,
            epoch_seconds=2.0,
        )
        (folder / "test_report.json").write_text(json.dumps({"heads": {"test": head}}))
        (folder / "traceback.txt").write_text("Traceback\nValueError: x")
        (folder / "benchmark.json").write_text(
            json.dumps({"models": [{"model": "m", "macs": 1, "params": 2, "latency_ms_p50": 3}]})
        )
        (folder / "csv").mkdir()
        (folder / "csv" / "metrics.csv").write_text("epoch,val/acc\n0,0.5\n1,0.6\n")
        if changed:
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            for path in generator.sample(files, generator.randint(1, 2)):
                change(path, generator)
    result = fresh("compare", f"runs=[{tmp_path}]", f"paths.log_dir={tmp_path}", f"folder={tmp_path}", timeout=120)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    page = (tmp_path / "compare.html").read_text()
    assert all(f"model.net.good={number} " in page for number in range(GOOD))
    assert result.stdout.count("left out: ") == 41  # of which the last says how many more there are
    assert page.count(f"<li>{tmp_path}") > 100
