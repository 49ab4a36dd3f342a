"""The README tells the truth: its commands run, its steps work as written, what it names exists."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from src.config.paths import CONFIGS, ROOT
from src.data import mnist_5k
from src.train import train
from tests.conftest import TINY_RUN
from tests.programs import run

README = (ROOT / "README.md").read_text()
DOCS = "\n".join([README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))])
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", DOCS, re.DOTALL)


def commands_of(text: str) -> list[str]:
    """The lines of all blocks of commands, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [re.split(r"\s+# ", line)[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = list(dict.fromkeys(commands_of(DOCS)))  # some stand on several pages
# those of a run that is there already are run by test_stress.py
TRAINING = [command for command in COMMANDS if command.startswith("python src/train.py") and "<run>" not in command]
NEW_FILES = {
    re.match(r"# (\S+)\n", block)[1]: block  # type: ignore[index]
    for _, block in BLOCKS
    if re.match(r"# (src|configs)/\S+\n", block)
}
NEW_NAMES = [Path(name).stem for name in NEW_FILES]
DIGITS_ONCE = cache(mnist_5k.read_digits)  # parsing the table takes a second


def test_the_readme_is_short_and_its_commands_are_found() -> None:
    assert len(README.splitlines()) <= 120
    assert len(COMMANDS) >= 15 and len(TRAINING) >= 9 and len(NEW_FILES) == 10


# what makes parts quicker that are slow as they are, and tested elsewhere: drawing scenes, measuring speeds
QUICKER = {
    "model=scenes_unet": ("data.train_size=48", "data.test_size=32"),
    "budget=": ("budget=1s",),
    "cpu_autotune": ("callbacks.cpu_tuning.max_seconds=1",),
    "quantization]": ("callbacks.quantization.seconds=0.02", "callbacks.quantization.calibration_images=32"),
}


OWN_DATA = ("csv_series", "mask_folder")  # with tests of their own, which write the files


@pytest.mark.parametrize("command", [c for c in TRAINING if not any(name in c for name in [*NEW_NAMES, *OWN_DATA])])
def test_a_training_command_trains(
    command: str, compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist_5k, "read_digits", DIGITS_ONCE)
    arguments = [argument for argument in shlex.split(command)[2:] if argument != "-m"]
    if "-m" in command.split():
        # the first job of a sweep; a range stands for the value that is there without it
        arguments = [argument.split(",")[0] for argument in arguments if "(" not in argument]
    if (
        any(one.startswith("data=fashion_mnist") for one in arguments)
        and not Path("/usr/share/datasets/fashion-mnist").is_dir()
    ):
        pytest.skip("Fashion-MNIST is not installed: apt-get install dataset-fashion-mnist")
    unused = ["trainer.limit"] if "debug=limit" in arguments else []
    unused += ["++data.val_size"] if "data.path=configs" in arguments else []  # texts are split by fractions
    tiny = [override for override in TINY_RUN if not override.startswith(tuple(unused))]
    tiny += [override for word, overrides in QUICKER.items() if word in command for override in overrides]
    figures, objects = train(compose(*arguments, *tiny, "test=true"))
    if "lr_find=true" in arguments:
        assert (Path(objects["cfg"].paths.output_dir) / "lr_find.png").is_file() and not figures
        return
    model = objects["model"]
    score = figures[f"test/{model.score}"]
    assert score >= 0 and (score <= 1 or model.mode == "min")
    assert ("test/auroc" in figures) == ("experiment=mnist_anomaly" in arguments)


@pytest.mark.parametrize(
    ("page", "overrides"),
    [
        ("reconstruction", ["model=mnist_autoencoder_58k", "data=mnist_5k"]),
        ("segmentation", ["model=scenes_unet_64k", "data.train_size=160", "data.test_size=16"]),
        ("explain", ["model=mnist_cnn_8k", "data=synthetic", "data.channels=1", "data.image_size=28"]),
    ],
)
def test_what_a_page_does_with_a_finished_run_works(
    page: str, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for suffix in ("png", "jpg"):
        Image.effect_noise((40, 30), 50).save(f"photo.{suffix}")
    trained = run("train", *overrides, *TINY_RUN, "hydra.run.dir=a_run")
    assert trained.returncode == 0, trained.stderr
    commands = [command for command in commands_of((ROOT / "docs" / f"{page}.md").read_text()) if "<run>" in command]
    assert commands
    for number, command in enumerate(commands):
        _, program, *arguments = shlex.split(re.sub(r"(logs/train/runs/)?<run>", "a_run", command))
        if "export" in program:  # a net that was hardly trained may lose more than others by int8
            arguments += ["seconds=0.02", "compiled=false", "quantization.calibration_images=32"]
            arguments += ["quantization.max_drop=100"]
        result = run(Path(program).stem, *arguments, f"hydra.run.dir=program_{number}")
        assert result.returncode == 0, result.stderr
        for written in re.findall(r"(?:images|sheet|vectors)=([^\s\d]\S*)", command):
            assert Path(written).exists()


@pytest.mark.parametrize("values", [["0", "1"], ["0", "255"], ["[0,0,0]", "[128,64,128]"]], ids=str)
def test_masks_of_ones_own_are_learnt_as_written(
    values: list[str], tmp_path: Path, compose: Callable[..., DictConfig]
) -> None:
    """The row of the table that says how such masks are described, put into the page's command."""
    page = (ROOT / "docs" / "segmentation.md").read_text()
    (command,) = [line for line in commands_of(page) if "mask_folder" in line]
    given = f"data.values=[{','.join(values)}]"
    assert given in page or values == ["0", "1"]
    command = re.sub(r"data\.values=\S+", given if values != ["0", "1"] else "", command)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    colours = np.array([json.loads(value) for value in values], np.uint8)
    for number in range(20):
        truth = np.arange(40 * 30).reshape(30, 40) % (number + 3) < 2
        Image.fromarray(np.uint8(truth) * 100).convert("RGB").save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(colours[truth.astype(int)]).save(tmp_path / "masks" / f"{number}.png")
    arguments = shlex.split(command.replace("<folder>", str(tmp_path)))[2:]
    tiny = [override for override in TINY_RUN if "val_size" not in override]
    small = ("data.image_size=16", "data.batch_size=4", "model=scenes_unet_64k")
    figures, objects = train(compose(*arguments, *tiny, *small))
    assert 0 <= figures["test/miou"] <= 1
    assert objects["datamodule"].class_counts()["train"].sum() == 16 * 16 * 16


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in TRAINING])
def test_any_other_command_exists(command: str) -> None:
    program, argument, *_ = shlex.split(command)
    if program == "make":
        result = subprocess.run(["make", "-n", argument], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    else:  # test_eval.py runs src/eval.py; benchmarks print figures and are no tests
        assert program == "python" and (ROOT / argument).is_file()


def test_the_quick_test_of_all_families_leaves_none_out() -> None:
    said = subprocess.run(["make", "-n", "tqa"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {path.stem: path.read_text() for path in CONFIGS.glob("model/*.yaml") if path.stem != "timm"}
    nets = {name: re.findall(r"^  _target_: (\S+)", text, re.MULTILINE)[-1:] for name, text in texts.items()}
    quick = [nets[name] for name in re.findall(r"model=(\S+)", said)]
    assert not {name: net for name, net in nets.items() if net and net not in quick}


def test_the_steps_of_extending_work_as_written(tmp_path: Path) -> None:
    """Copy the project, write the files of the steps, run their commands and the tests that find configurations."""
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".project-root").touch()
    for name, content in NEW_FILES.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(content)
    commands = [command for command in TRAINING if any(name in command for name in NEW_NAMES)]
    assert len(commands) == 5
    for command in commands:
        result = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        assert ("test/mae" if "mnist_coverage" in command else "test/acc") in result.stdout
        if "mnist_tiny" in command:  # the number that the steps tell, and the name that they make of it
            params = re.findall(r"params\W+([\d,]+)", result.stdout)[-1]
            assert f"They are {params}." in DOCS and f"model=mnist_tiny_{params.split(',')[0]}k " in DOCS
    assert len(list((tmp_path / "logs" / "train" / "runs").glob("*/metrics.json"))) == 5


def test_a_series_of_ones_own_is_forecast_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continue the table that the page begins, run the page's commands on it, and find what it says they write."""
    section = DOCS.split("\n## Forecasting\n")[1].split("\n## ")[0]
    table, written = re.findall(r"```csv\n(.*?)```", section, re.DOTALL)
    days = [f"2024-{month:02}-{day:02}" for month in range(2, 10) for day in range(1, 29)]
    rows = [f"{day},{500 + 15 * (number % 7) + number % 5},no\n" for number, day in enumerate(days)]
    Path(tmp_path, "load.csv").write_text(table + "".join(rows))
    monkeypatch.chdir(tmp_path)
    options = {
        "train": TINY_RUN[:2],
        "export": ("seconds=0.02", "compiled=false"),
        "predict": ("hydra.run.dir=predict",),
    }
    for block in [block for block in BLOCKS if block[1] in section and block[0] == "bash"][:2]:
        for line in block[1].replace("<run>", "mine").splitlines():
            _, program, *arguments = shlex.split(line)
            name = Path(program).stem
            folder = ("hydra.run.dir=logs/train/runs/mine",) if name == "train" else ()
            result = run(name, *arguments, *options[name], *folder)
            assert result.returncode == 0, result.stderr
    (row,), (expected,) = (
        list(csv.DictReader(text.splitlines())) for text in (Path("forecast.csv").read_text(), written)
    )
    assert row["file"] == expected["file"] and list(row) == list(expected)
    lists = [json.loads(line["forecast"]) for line in (row, expected)]
    assert [len(one) for one in lists] == [7, 7] and all(400 < value < 700 for one in lists for value in one)
    assert json.loads(Path("forecast.json").read_text())[0]["file"] == "load.csv"
    assert np.load("forecast.npz")["forecast"].shape == (1, 7, 1)


def test_every_model_is_in_the_table_and_no_figure_is_left_out() -> None:
    names = {path.stem for path in CONFIGS.glob("model/*.yaml")} - {"simple_mlp_256_128"}
    assert not {name for name in names if f"`{name}`" not in DOCS}
    assert not re.findall(r"[A-Z]{4,}×", DOCS)


def test_the_choices_and_files_it_names_exist() -> None:
    rows = re.findall(r"^\| .* \| (`\S+=…`.*) \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) >= 5
    for keys, choices in rows:
        groups = re.findall(r"`(\S+?)=…`", keys)
        for choice in re.findall(r"`(\w+)`", choices):
            assert any((CONFIGS / group / f"{choice}.yaml").is_file() for group in groups), f"{keys}: {choice}"
    for name in re.findall(r"`?((?:src|configs|benchmarks|tests)/[\w/]+\.\w+)", README):
        assert (ROOT / name).exists() or name in NEW_FILES, name
