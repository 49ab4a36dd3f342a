"""A run's folder may have any name: programs accept it as written, and print commands that can be pasted."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from src.config.composing import parse
from src.config.paths import ROOT
from src.config.quoting import quote_paths
from src.run.file_names import OVERRIDES
from src.run.interruption import Interrupted
from src.run.rerun import expand
from tests.config.test_quoting import ODD
from tests.conftest import TINY_RUN
from tests.programs import run

WORST = 'it\'s "a" [b], {c}=d; #é日本 $5 `id` \\ & (x) ~ *'
SMALL = [
    *TINY_RUN,
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.test_size=64",
    "model=mnist_sdn_8k",
]


def printed(command: str) -> list[str]:
    """The arguments that a shell passes to a program when its command is pasted."""
    show = [sys.executable, "-c", "import sys; print('\\0'.join(sys.argv[1:]), end='')"]
    words = command.split(" ", 2)[2]  # without python src/train.py
    script = f"{shlex.join(show)} {words}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")


@pytest.mark.parametrize("name", [name for name in ODD if "${" not in name])
def test_the_command_that_resumes_can_be_pasted(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    (folder / ".hydra").mkdir(parents=True)
    (folder / OVERRIDES).write_text("- trainer.max_epochs=3\n")
    command = str(Interrupted(2, folder)).partition("to resume: ")[2]
    expanded = quote_paths(expand(printed(command)))
    given = {override.key_or_group: override.value() for override in parse(expanded)}
    assert given["resume"] == given["hydra.run.dir"] == str(folder)
    assert given["trainer.max_epochs"] == 3


def test_every_program_takes_the_worst_name(tmp_path: Path) -> None:
    folder = tmp_path / WORST
    trained = run("train", *SMALL, f"hydra.run.dir={folder}", "extras.next_commands=[]")
    assert trained.returncode == 0, trained.stderr
    assert (folder / "metrics.json").is_file()
    log_dir = f"paths.log_dir={tmp_path}/logs"
    for program, arguments in {
        "eval": [f"run_dir={folder}", log_dir],
        "predict": [f"ckpt_path={folder}/checkpoints/last.ckpt", f"input={ROOT}/docs/no_such_picture.png", log_dir],
        "compare": [f"runs=[{folder}]", log_dir],
        "train": [f"reproduce={folder}", log_dir],
    }.items():
        result = run(program, *arguments)
        if program == "predict":  # it got as far as looking for the image
            assert result.returncode == 1 and "no_such_picture" in result.stderr, result.stderr
        else:
            assert result.returncode == 0, f"{program}: {result.stderr}"
    resumed = run("train", f"resume={folder}", "trainer.max_epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    assert '"epochs": 2' in (folder / "metrics.json").read_text()


def test_commands_worth_trying_next_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / WORST
    command = "extras.next_commands=['python src/eval.py run_dir=${paths.output_dir}']"
    result = run("train", *SMALL, f"hydra.run.dir={folder}", command, "train=false", "test=false", COLUMNS="1000")
    assert result.returncode == 0, result.stderr
    line = next(line.strip() for line in result.stdout.splitlines() if "src/eval.py" in line)
    assert printed(line) == [f"run_dir={folder}"], os.linesep.join([line, result.stdout])
