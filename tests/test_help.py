"""`--help` tells what a program takes, and nothing that only training does."""

import re

import pytest
import yaml

from src.cli.entry_point import CONFIGS
from tests.programs import run

# keys that are no choice of a program's user, or are called otherwise on the command line
NOT_TOLD = {"defaults", "hydra", "task_name", "extras"}
CALLED = {"exported": "model"}


@pytest.mark.parametrize("name", ["eval", "export", "predict", "compare"])
def test_the_help_of_a_program_names_what_it_takes_and_nothing_else(name: str) -> None:
    result = run(name, "--help")
    assert result.returncode == 0, result.stderr
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    groups = {group for entry in config["defaults"] if isinstance(entry, dict) for group in entry}
    groups -= {"paths", "hydra", "optional local", *NOT_TOLD}
    wanted = {CALLED.get(key, key) for key in {*config, *groups} - NOT_TOLD}
    _, _, listed = result.stdout.partition("== What it takes (key=value) ==")
    told = {word for line in re.findall(r"^(\w[\w, ]*?)(?:  |\n)", listed, re.MULTILINE) for word in line.split(", ")}
    assert told == wanted
    for foreign in ("hparams_search", "experiment", "scheduler", "Hydra", "exported:"):
        assert foreign not in result.stdout
    example = re.search(rf"python src/{name}\.py (.*)", result.stdout)
    assert example and {argument.partition("=")[0] for argument in example[1].split()} <= wanted
