"""Explaining runs from the command line: the page, its figures, and calibrated probabilities."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from src.run.calibration import read_temperatures
from tests.conftest import TINY_RUN
from tests.programs import run

SECTIONS = {"facts", "classes", "confusions", "worst", "attribution", "calibration", "robustness", "ood"}
SECTIONS |= {"label_errors", "units"}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small net with convolutions, explained."""
    folder = tmp_path_factory.mktemp("run")
    data = ["data=synthetic", "data.channels=1", "data.image_size=28", "data.test_size=300"]
    trained = run("train", "model=mnist_cnn_8k", *data, *TINY_RUN, f"hydra.run.dir={folder}")
    assert trained.returncode == 0, trained.stderr
    explained = run("explain", f"run_dir={folder}", "ood=synthetic", f"hydra.run.dir={folder}/explaining")
    assert explained.returncode == 0, explained.stderr
    first, second, *_ = explained.stdout.splitlines()
    assert re.fullmatch(r"test acc: 0\.\d{4} on 300 test samples", first)
    assert re.match(r"most confused, class: \S+ taken for \S+ \(\d+\)", second)
    assert f"page: {folder}/explain/explanation.html" in explained.stdout
    assert f"temperatures: {folder}/calibration.json" in explained.stdout
    return folder


def figures(folder: Path) -> dict:
    return json.loads((folder / "explain" / "explanation.json").read_text())


def test_the_page_has_all_sections_and_loads_nothing(run_dir: Path) -> None:
    page = (run_dir / "explain" / "explanation.html").read_text()
    assert len(page) < 3_000_000 and page.count("<section") == 9 and "Left out" not in page
    assert set(re.findall(r'(?:src|href)="(.{6})', page)) <= {"data:i", "#secti"}
    assert "<script" not in page and "default-src 'none'" in page and "url(" not in page
    found = figures(run_dir)
    assert set(found) == SECTIONS
    assert found["attribution"] == {"method": {"class": "Grad-CAM"}}
    assert 0.2 < found["ood"]["auroc"]["class"]["energy"] < 0.8  # these are the same data
    assert "300 test samples" in found["facts"]["data"]
    counted = sum(row["count"] * row["accuracy"] for row in found["classes"]["class"].values())
    assert counted / 300 == pytest.approx(float(found["facts"]["test acc"]), abs=1e-4)
    assert found["label_errors"]["train"]["class"]["checked"] == 1948


def test_predictions_are_calibrated_on_request(run_dir: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.effect_noise((28, 28), 80).save(photo)
    rows = {}
    for calibrated in ("false", "true"):
        out = tmp_path / f"{calibrated}.csv"
        words = [f"run_dir={run_dir}", f"input={photo}", "top=10", f"out={out}", f"calibrated={calibrated}"]
        result = run("predict", *words, f"hydra.run.dir={tmp_path}/{calibrated}")
        assert result.returncode == 0, result.stderr
        (rows[calibrated],) = csv.DictReader(out.read_text().splitlines())
    plain, scaled = rows["false"], rows["true"]
    assert plain["class"] == scaled["class"] and plain["class_2"] == scaled["class_2"]
    (temperature,) = read_temperatures(next((run_dir / "checkpoints").glob("epoch_*.ckpt"))).values()
    odds = [math.log(float(row["class_probability"]) / float(row["class_2_probability"])) for row in (plain, scaled)]
    assert odds[0] / odds[1] == pytest.approx(temperature, rel=0.01) and temperature != 1


def test_temperatures_of_another_checkpoint_are_not_used(run_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    (ckpt_path,) = (folder / "checkpoints").glob("epoch_*.ckpt")
    assert read_temperatures(ckpt_path)["class"] > 0
    other = shutil.copy(ckpt_path, folder / "checkpoints" / "other.ckpt")
    with Path(other).open("ab") as file:
        file.write(b"another")
    with pytest.raises(ValueError, match=r"belongs to a checkpoint other than .*other\.ckpt: fit temperatures with"):
        read_temperatures(Path(other))
    content = json.loads((folder / "calibration.json").read_text())
    for damaged in ({}, {"class": 0.0}, {"class": 1e-310}, {"class": "1"}, {"class": True}, {"class": None}):
        (folder / "calibration.json").write_text(json.dumps({**content, "temperatures": damaged}))
        with pytest.raises(ValueError, match=r"calibration\.json is damaged"):
            read_temperatures(ckpt_path)
    (folder / "calibration.json").unlink()
    with pytest.raises(ValueError, match=r"calibrated=true needs .*calibration\.json, which does not exist"):
        read_temperatures(ckpt_path)


def test_a_checkpoint_outside_of_a_run_is_explained_and_keeps_no_temperatures(run_dir: Path, tmp_path: Path) -> None:
    (ckpt_path,) = (run_dir / "checkpoints").glob("epoch_*.ckpt")
    (tmp_path / "downloads").mkdir()
    moved = shutil.copy(ckpt_path, tmp_path / "downloads" / "net.ckpt")
    words = [f"ckpt_path={moved}", "images=100", f"folder={tmp_path}/page", "format=json"]
    result = run("explain", *words, f"hydra.run.dir={tmp_path}/explaining")
    assert result.returncode == 0, result.stderr
    assert set(json.loads(result.stdout)) == SECTIONS - {"facts"} and "temperatures: not kept" in result.stderr
    assert (tmp_path / "page" / "explanation.html").is_file() and not (tmp_path / "calibration.json").exists()


def test_fewer_samples_leave_the_runs_temperatures_alone(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "calibration.json"
    own = path.read_text()
    path.write_text(json.dumps({**json.loads(own), "samples": 5_000}))
    more = path.read_text()
    result = run("explain", f"run_dir={run_dir}", "images=150", f"folder={tmp_path}/page", f"hydra.run.dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "on 150 of 300 test samples" in result.stdout and path.read_text() == more
    assert f"not kept, because {path} has temperatures that were fitted to 5,000 samples, not to 100" in result.stdout
    path.write_text(own)


def test_other_data_leave_the_runs_temperatures_alone(run_dir: Path, tmp_path: Path) -> None:
    before = (run_dir / "calibration.json").read_text()
    words = [f"run_dir={run_dir}", "data.data_seed=5", "images=150", f"folder={tmp_path}/page"]
    result = run("explain", *words, f"hydra.run.dir={tmp_path}/explaining")
    assert result.returncode == 0, result.stderr
    assert "temperatures: not kept" in result.stdout and (run_dir / "calibration.json").read_text() == before
    page = (tmp_path / "page" / "explanation.html").read_text()
    assert "150 of 300 test samples" in page and "No other data are named" in page


@pytest.mark.parametrize(
    ("program", "words", "sentence"),
    [
        ("explain", ["run_dir={run}", "ood=fashion_mnis"], "There is no ood=fashion_mnis in configs/data/."),
        ("explain", ["run_dir={run}", "images=0"], "images=0 must be at least 1."),
        ("explain", ["run_dir={run}", "ood=mnist_5k_rows"], "ood=mnist_5k_rows has inputs of shape (28, 28), but"),
        ("explain", ["run_dir={run}", "folder={run}/run.json"], "run.json is a file: name a folder."),
        ("explain", ["ood=synthetic"], "Choose a run by either run_dir=logs/train/runs/… or ckpt_path=….ckpt"),
        ("predict", ["model={run}", "input={run}/run.json", "calibrated=true"], "calibrated=true is for runs;"),
    ],
    ids=["ood", "images", "shape", "folder", "no run", "exported"],
)
def test_mistakes_are_answered_in_a_sentence(
    program: str, words: list[str], sentence: str, run_dir: Path, tmp_path: Path
) -> None:
    result = run(program, *(word.format(run=run_dir) for word in words), f"hydra.run.dir={tmp_path}")
    assert result.returncode == 1 and sentence in result.stderr and "Traceback" not in result.stderr


def test_nothing_is_written_through_a_link(run_dir: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(run_dir, folder)
    shutil.rmtree(folder / "explain")
    outside.mkdir()
    (folder / "explain").symlink_to(outside)
    result = run("explain", f"run_dir={folder}", f"hydra.run.dir={tmp_path}/explaining")
    assert result.returncode == 1 and f"{folder}/explain is a symbolic link" in result.stderr
    assert not any(outside.iterdir())


def test_forecasts_have_what_applies_and_the_reasons_for_the_rest(tmp_path: Path) -> None:
    trained = run("train", "model=sunspots_lstm_6k", *TINY_RUN[:3], f"hydra.run.dir={tmp_path}/run")
    assert trained.returncode == 0, trained.stderr
    words = [f"run_dir={tmp_path}/run", f"hydra.run.dir={tmp_path}/explaining"]
    result = run("explain", *words, "images=50")
    assert result.returncode == 0, result.stderr
    found = figures(tmp_path / "run")
    assert {key for key in found if "left_out" not in found[key]} == {"facts", "worst", "units"}
    assert found["worst"]["forecast"]["mean_error"] > 0 and not (tmp_path / "run" / "calibration.json").exists()
    page = (tmp_path / "run" / "explain" / "explanation.html").read_text()
    assert (
        "Each picture" not in page
        and page.count("<dt>") == 5 + 1 + 7
        and "the net predicts something else (vector)" in page
    )
    result = run("explain", *words[:1], "data.test_size=0", f"hydra.run.dir={tmp_path}/without")
    assert result.returncode == 1 and "The run's data have no test images to explain it with" in result.stderr
