"""`src/choose.py`: its output, its errors, and that it does not import torch."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf
from PIL import Image

from src.advice.kinds import KINDS
from src.advice.measurements import read_evidence, read_models
from src.choose import choose
from src.config.paths import CONFIGS, ROOT
from tests.programs import run
from tests.test_readme import commands_of

REQUEST = ("task=classification", "images=10000", "size=64", "channels=3", "max_params=1m")


def answer(*overrides: str) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return choose(hydra.compose("choose", list(overrides)))[0]


def test_advice_is_given_without_torch(tmp_path: Path) -> None:
    program = [sys.executable, "-X", "importtime", str(ROOT / "src" / "choose.py"), *REQUEST, "format=json"]
    result = subprocess.run([*program, f"hydra.run.dir={tmp_path}"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "hydra" in imported and not {"torch", "lightning", "matplotlib", "numpy"} & imported
    printed = json.loads(result.stdout)
    assert len(printed["advice"]) == 5 and printed["wish"]["max_params"] == 1e6
    assert all(one["params"] <= 1e6 and one["input"] == "3×64×64" for one in printed["advice"])
    best = max(
        (one for one in read_evidence(read_models()) if (one.data, one.shape[0]) == ("fashion_mnist", 3)),
        key=lambda one: one.value,
    )
    expected = {"name": "acc", "value": best.value, "data": "fashion_mnist", "size": 32, "epochs": best.epochs}
    assert printed["advice"][0]["score"] == expected


def test_scores_of_other_sizes_are_told_as_such() -> None:
    every = answer("images=10000", "size=64", "channels=3", "top=100")["advice"]
    hybrid = next(one for one in every if one["model"] == "cifar10_hybrid_210k")
    reached = next(one for one in read_evidence(read_models()) if one.model == "cifar10_hybrid_210k")
    assert hybrid["score"] == {"name": "acc", "value": reached.value, "data": "fashion_mnist", "size": 32, "epochs": 4}
    assert "its first layers are coarser at 64 px than at 32 px, where it was measured" in hybrid["reasons"]


def test_what_the_command_lacks_and_what_is_assumed_is_told() -> None:
    given = answer("images=55000", "size=28", "channels=1", "top=1")
    assert "not the other settings of experiment=fashion_mnist_210k" in "\n".join(given["advice"][0]["reasons"])
    assert not any("channels=1" in line or "is assumed" in line for line in given["based_on"][1:])
    assert "those with channels=1 first" in given["based_on"][0]
    anomaly = answer("task=anomaly", "top=1")["advice"][0]
    assert "experiment=mnist_anomaly" in anomaly["command"] and "not the other" not in "\n".join(anomaly["reasons"])
    assumed = answer("images=3000", "size=28")["based_on"]
    assert any(line.startswith("channels=3 is assumed") for line in assumed) and "channels=3 first" not in assumed[0]


@pytest.mark.parametrize("task", KINDS)
def test_each_task_has_nets_whose_commands_compose(task: str, compose: Callable[..., Any]) -> None:
    advice = answer(f"task={task}", "images=400", "top=1")
    for one in advice["advice"]:
        program, *overrides = shlex.split(one["command"])[1:]
        assert program == "src/train.py" and f"model={one['model']}" in overrides
        OmegaConf.resolve(compose(*(word.replace("<folder>", "x").replace("<file>", "x") for word in overrides)))
    for line in advice["deployment"]:
        if line.startswith("python"):
            assert (ROOT / line.split()[1]).is_file()
    assert all((ROOT / page).is_file() for page in advice["read_on"])


def test_the_table_tells_what_is_not_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer("task=anomaly", "device=edge")
    shown = capsys.readouterr().out
    assert "auroc 0.8979 (mnist_5k, 20 epochs)" in shown and "not measured: its test/auroc" in shown
    assert "Speed on ARM is not measured here" in shown
    models = read_models()
    models["cifar10_sdn_210k"] |= {"latency_ms": None, "train_images_per_second": None}
    monkeypatch.setattr("src.choose.read_models", lambda: models)
    answer("images=10000", "max_latency_ms=5", "top=1")
    shown = capsys.readouterr().out
    assert "1 for max_latency_ms, speed not measured" in shown and "more nets would fit: top=" in shown


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("task=clasification", "task=clasification does not exist. Did you mean classification"),
        ("latency=5", "Did you mean max_latency_ms?"),
        (
            "max_params=100",
            "the nearest are mnist_sdn_8k (params 7,973)",
        ),
        ("plot=front.doc", "plot=front.doc: the file name must end in .png, .svg, .pdf."),
        ("plot=nowhere/front.svg", "there is no folder nowhere."),
        ("top=0", "top=0: it must be a positive number"),
    ],
    ids=lambda value: value.partition("=")[0] if "=" in value else value,
)
def test_what_cannot_be_is_one_sentence(argument: str, sentence: str, tmp_path: Path) -> None:
    result = run("choose", argument, f"hydra.run.dir={tmp_path}")
    assert result.returncode == 1 and not result.stdout
    assert sentence in result.stderr.splitlines()[0] and "Traceback" not in result.stderr


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_front_is_drawn(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"front.{suffix}"
    answer(*REQUEST, f"plot={path}")
    if suffix == "png":
        assert Image.open(path).size == (960, 1200)  # score, and size
    else:
        assert "<svg" in path.read_text()[:1000]


def test_the_commands_of_the_guide_are_answered() -> None:
    commands = [line for line in commands_of((ROOT / "docs" / "choose.md").read_text()) if "src/choose.py" in line]
    assert len(commands) >= 4
    for command in commands:
        assert answer(*[word for word in shlex.split(command)[2:] if not word.startswith("plot=")])["advice"]
