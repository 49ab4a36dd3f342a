"""`--help` tells what a program takes, and nothing that only training does."""

import re
import subprocess
import sys

import pytest
import yaml

from src.config.paths import CONFIGS, ROOT
from tests.programs import run

# keys that are no choice of a program's user, or are called otherwise on the command line
NOT_TOLD = {"defaults", "hydra", "task_name", "extras"}
CALLED = {"exported": "model"}
PROGRAMS = ["train", "eval", "export", "predict", "benchmark", "compare", "choose", "explain", "describe"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_help_of_a_program_names_what_it_takes_and_nothing_else(name: str) -> None:
    result = run(name, "--help")
    assert result.returncode == 0, result.stderr
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    groups = {group for entry in config["defaults"] if isinstance(entry, dict) for group in entry}
    groups -= {"paths", "hydra", "optional local", *NOT_TOLD}
    called = CALLED if name == "predict" else {}
    wanted = {called.get(key, key) for key in {*config, *groups} - NOT_TOLD}
    _, _, listed = result.stdout.partition("== What it takes (key=value) ==")
    told = {word for line in re.findall(r"^(\w[\w, ]*?)(?:  |\n)", listed, re.MULTILINE) for word in line.split(", ")}
    assert told == wanted
    foreign = () if name == "train" else ("hparams_search", "experiment", "scheduler")
    for word in (*foreign, "Hydra", "hydra", "exported:"):
        assert word not in result.stdout
    examples = re.findall(rf"^  python src/{name}\.py(.*)", result.stdout, re.MULTILINE)
    assert len(examples) >= 3
    for argument in " ".join(examples).split():
        key, equals, _ = argument.strip("'").partition("=")
        assert key.partition(".")[0] in wanted if equals else argument in ("-m", "--cfg", "job")
    for document in re.findall(r"[\w/]+\.md", result.stdout):
        assert (ROOT / document).is_file()
    assert "README.md" in result.stdout


def test_the_help_of_the_training_names_every_choice() -> None:
    shown = run("train", "--help").stdout
    for group in ("model", "data", "trainer", "model/optimizer"):
        (line,) = re.findall(rf"^{group}: (.*)", shown, re.MULTILINE)
        assert {*line.split(", ")} >= {path.stem for path in (CONFIGS / group).glob("*.yaml")}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_is_told_without_torch(name: str) -> None:
    program = str(ROOT / "src" / f"{name}.py")
    result = subprocess.run([sys.executable, "-X", "importtime", program, "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "python src/" in result.stdout
    assert "hydra" in result.stderr and "torch" not in result.stderr
