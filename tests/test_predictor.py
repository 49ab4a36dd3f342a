"""Prediction with the exported files alone: images of every kind become inputs like those of training."""

import csv
import glob
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image
from torch.nn import functional as F
from torchvision.transforms import v2

from src import predictor
from src.config.paths import ROOT
from src.data.image_folder import ImageFolderDataModule
from src.data.synthetic import SyntheticDataModule
from src.predictor import (
    CARD,
    CARD_VERSION,
    Predictor,
    expand_pattern,
    find_files,
    fit_image,
    read_card,
    read_image,
    report_rows,
    to_input,
)

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
CLASSES = {"class": {"kind": "classes", "names": ["a", "b"]}}
find_images = partial(find_files, kinds=[predictor.INPUTS["image"]])
BASE = {"mode": "L", "resize": "pad_or_stretch", "image_size": 8, "mean": [0.5], "std": [0.25]}


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I;16", "PA"])
@pytest.mark.parametrize("wanted", ["L", "RGB"])
def test_an_image_of_any_mode_is_read(mode: str, wanted: str, tmp_path: Path) -> None:
    suffix = "tiff" if mode in ("CMYK", "YCbCr") else "png"
    if mode == "I;16":
        image = Image.fromarray(GREY.astype(np.uint16) * 257)
    else:
        image = (
            Image.fromarray(COLOUR).convert("RGBA" if mode == "PA" else "RGB").convert("P" if mode == "PA" else mode)
        )
        image = image.convert("RGB") if mode == "HSV" else image
    read = read_image(save(image, tmp_path / f"image.{suffix}"), wanted)
    assert read.mode == wanted and read.size == (30, 20)
    assert len(np.unique(np.asarray(read))) > 1


def test_16_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    path = save(Image.fromarray(GREY.astype(np.uint16) * 257), tmp_path / "deep.png")
    assert np.array_equal(np.asarray(read_image(path, "L")), GREY)


def test_integers_of_32_bits_are_taken_for_what_they_hold(tmp_path: Path) -> None:
    for scale in (1, 257):
        path = save(Image.fromarray(GREY.astype(np.int32) * scale), tmp_path / f"{scale}.tiff")
        assert np.array_equal(np.asarray(read_image(path, "L")), GREY)


def test_names_that_promise_another_kind_of_file_are_refused() -> None:
    predictor.check_outputs("a.CSV", "b.png")
    for out, sheet in (("a.txt", None), (None, "b.jpg")):
        with pytest.raises(ValueError, match=r"must end in \."):
            predictor.check_outputs(out, sheet)


def test_transparency_becomes_white(tmp_path: Path) -> None:
    alpha = np.zeros((20, 30, 1), dtype=np.uint8)
    path = save(Image.fromarray(np.concatenate([COLOUR, alpha], axis=2)), tmp_path / "glass.png")
    assert (np.asarray(read_image(path, "RGB")) == 255).all()
    palette = Image.fromarray(np.zeros((4, 4), dtype=np.uint8), mode="P")
    palette.putpalette([10, 20, 30])
    path = save(palette, tmp_path / "palette.png", transparency=0)
    assert (np.asarray(read_image(path, "L")) == 255).all()


def test_a_cameras_rotation_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = save(Image.fromarray(COLOUR), tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(path, "RGB")), np.rot90(COLOUR, -1))


def test_what_is_no_image_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    whole = save(Image.fromarray(COLOUR), tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    save(Image.fromarray(GREY.astype(np.float32)), tmp_path / "floats.tiff")
    save(Image.fromarray(GREY.astype(np.int32) + 65536), tmp_path / "integers.tiff")
    for name in ("text.png", "empty.png", "half.jpg", "floats.tiff", "integers.tiff", "none.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image: "):
            read_image(tmp_path / name, "RGB")


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (24, 24), (23, 57), (5, 9), (500, 30)], ids=str)
def test_photographs_are_fitted_as_torchvision_would(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    wanted = v2.Compose([v2.Resize(24 * 8 // 7), v2.CenterCrop(24)])(image)
    assert np.array_equal(np.asarray(fit_image(image, "centre_crop", 24)), np.asarray(wanted))


@pytest.mark.parametrize("size", [(28, 28), (20, 28), (5, 7), (32, 32), (100, 40), (29, 3)], ids=str)
@pytest.mark.parametrize(("has", "wants"), [(1, 1), (3, 1), (1, 3), (3, 3)])
def test_small_images_are_fitted_as_in_memory_data_are(
    size: tuple[int, int], has: int, wants: int, tmp_path: Path
) -> None:
    pixels = torch.randint(256, (1, has, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    options = {"num_classes": 2, "batch_size": 4, "train_size": 8, "test_size": 8}
    served_as = {"channels": wants, "image_size": 28, "mean": [0.0] * wants, "std": [1 / 255] * wants}
    data = SyntheticDataModule(**options, **served_as)
    served = data._fit(pixels).float()[0]
    array = pixels[0].permute(1, 2, 0).squeeze(-1).numpy()
    card = {"mode": "L" if wants == 1 else "RGB", "resize": "pad_or_stretch", "image_size": 28}
    card |= {"mean": [0.0] * wants, "std": [1 / 255] * wants}
    ours = to_input(read_image(save(Image.fromarray(array), tmp_path / "image.png"), card["mode"]), card)
    assert np.abs(ours - served.numpy()).max() <= 1.01  # of 255: the two round colours and sizes apart by one
    if has == wants and max(size) <= 28:
        assert np.allclose(ours, served.numpy(), atol=1e-3)


def test_an_image_becomes_the_input_that_its_data_module_serves(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            noise = np.random.default_rng(number).integers(0, 256, (40, 33, 3), dtype=np.uint8)
            save(Image.fromarray(noise), tmp_path / name / f"{number}.png")
    options = {"channels": 3, "image_size": 24, "batch_size": 1, "val_fraction": 0.1, "test_fraction": 0.3}
    data = ImageFolderDataModule(str(tmp_path), **options)
    data.setup()
    card = data.input_card()
    assert card["heads"] == {"class": ["a", "b"]}
    for (path, _), (images, _) in zip(data.data_test.samples, data.test_dataloader(), strict=True):
        assert np.allclose(to_input(read_image(path, card["mode"]), card), images[0].numpy(), atol=1e-6)


def brightness(images: np.ndarray) -> dict[str, np.ndarray]:
    """Logits of a net that distinguishes dark from bright, with a second head for the opposite."""
    mean = images.mean(axis=(1, 2, 3))
    return {"class": np.stack([-mean, mean], axis=1), "other": np.stack([mean, -mean, 0 * mean], axis=1)}


@pytest.fixture
def judge() -> Predictor:
    return Predictor({**BASE, "heads": {"class": ["dark", "bright"], "other": ["x", "y", "z"]}}, brightness)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    (folder / "deep").mkdir(parents=True)
    save(Image.new("L", (8, 8), 250), folder / "bright 1, [x]=(y).png")
    save(Image.new("L", (8, 8), 5), folder / "deep" / "dark.png")
    (folder / "broken.png").write_text("no")
    (folder / ".hidden.png").write_text("no")
    (folder / "notes.txt").write_text("no")
    return folder


def test_predictions_name_classes_and_go_on_after_a_broken_file(judge: Predictor, shots: Path) -> None:
    with pytest.raises(ValueError, match="top=0 must be at least 1"):
        list(judge.predict([], top=0))
    rows = list(judge.predict(find_images([str(shots)]), top=2))
    assert [Path(row["file"]).name for row in rows] == ["bright 1, [x]=(y).png", "broken.png", "dark.png"]
    bright, broken, dark = rows
    assert (bright["class"], bright["class_2"], bright["other"]) == ("bright", "dark", "x")
    assert (dark["class"], dark["other"]) == ("dark", "y")
    assert bright["class_probability"] + bright["class_2_probability"] == pytest.approx(1, abs=1e-5)
    assert bright["class_probability"] == pytest.approx(1 / (1 + np.exp(-2 * (250 / 255 - 0.5) / 0.25)), abs=1e-5)
    assert "broken.png cannot be read" in broken["error"]


@pytest.mark.parametrize("kind", predictor.KINDS)
def test_outputs_that_are_not_finite_are_an_error_of_their_file(
    kind: str, shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        shapes = {"image": images[:, :, :1, :2], "mask": images[:, :, :2].reshape(len(images), 2, 2, -1)}
        values = shapes.get(kind, images[:, 0, 0, :2])
        return {"first": np.zeros((len(images), 2), np.float32), "it": np.where(values < 0, np.nan, values)}

    outputs = {"first": {"kind": "vector"}, "it": {"kind": kind, "names": ["a", "b"], "colors": [[0, 0, 0], [9, 9, 9]]}}
    model = Predictor({**BASE, "outputs": outputs}, run)
    rows = list(model.predict(find_images([str(shots)]), images=tmp_path / "out"))
    assert [set(row) >= {"file", "it"} for row in rows] == [True, False, False]
    dark = str(shots / "deep" / "dark.png")
    error = f"{dark} has no prediction: the model's output it is not finite."
    assert rows[2] == {"file": dark, "error": error}
    report_rows(rows, outputs, str(tmp_path / "out.json"), str(tmp_path / "sheet.png"))
    shown = capsys.readouterr()
    assert "dark.png" not in shown.out and "nan" not in shown.out and f"ERROR: {error}\n" in shown.err
    assert "NaN" not in (tmp_path / "out.json").read_text()
    with pytest.raises(ValueError, match="2 of 3 files could not be predicted; all others are"):
        predictor.check_all_predicted(rows)
    with pytest.raises(ValueError, match="None of 1 file could be predicted"):
        report_rows(rows[2:], outputs, None, None)


def test_many_files_are_predicted_in_batches_in_their_order(judge: Predictor, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, 2 * predictor.BATCH_SIZE + 3)
    paths = [save(Image.new("L", (8, 8), int(v)), tmp_path / f"{i:03d}.png") for i, v in enumerate(levels)]
    rows = list(judge.predict(paths))
    assert [row["class"] for row in rows] == ["bright" if v / 255 > 0.5 else "dark" for v in levels]


def test_files_folders_and_patterns_are_found(shots: Path) -> None:
    dark = shots / "deep" / "dark.png"
    assert find_images([str(dark)]) == [dark]
    shown = sorted(path for path in shots.rglob("*.png") if not path.name.startswith("."))
    assert find_images([f"{shots}/**/*.png"]) == shown
    assert find_images([str(shots / "bright 1, [x]=(y).png"), str(shots / "deep")])[-1] == dark
    for name in ("none.png", "*.jpg"):
        with pytest.raises(FileNotFoundError, match="matches no image"):
            find_images([str(shots / name)])
    (shots / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty matches no image"):
        find_images([str(shots / "empty")])


PATTERNS = ("*.png", "*/*.png", "**/*.png", "**/**/*.png", "**/de*/**/*.png", "deep/../*.png", "[x]/*", "[[]x]/*.png")
PATTERNS += (".hid*/*.png", "**/.*.png", "de?p", "**/notes.txt", "b*y).png", "*/", "./d*/./dark.png")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_those_of_the_shell(pattern: str, shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "[x]", ".hidden", "deep/deeper"):
        (shots / name).mkdir()
        (shots / name / "in it.png").touch()
    monkeypatch.chdir(shots)
    for begin in ("", f"{shots}/"):
        wanted = {Path(path) for path in glob.glob(begin + pattern, recursive=True)}  # noqa: PTH207
        assert wanted and expand_pattern(begin + pattern) == sorted(wanted, key=str)


@pytest.mark.parametrize("links", [1, 2])  # by as many the number of ways to a file would double, forty times
def test_links_that_lead_back_are_not_followed_for_ever(links: int, shots: Path) -> None:
    files = find_images([f"{shots}/**/*.png"])
    for number in range(links):
        (shots / f"link {number}").symlink_to(".")
    assert find_images([f"{shots}/**/*.png"]) == files == find_images([str(shots)])
    assert find_images([f"{shots}/link 0/*.png"]) == [shots / "link 0" / path.name for path in files[:2]]  # as it says
    assert find_images([f"{shots}/**"]) == files


def test_predictions_are_written_as_csv_json_and_picture(
    judge: Predictor, shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(judge.predict(find_images([str(shots)])))
    predictor.report_rows(rows, judge.card["outputs"], str(tmp_path / "out.csv"), str(tmp_path / "sheet.png"))
    with (tmp_path / "out.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == ["bright", "", "dark"] and "broken.png" in table[1]["error"]
    predictor.write_rows(rows, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == rows
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 156, 128, 3) and {5, 250} <= set(sheet[:, 64, 0].tolist())  # both images are drawn
    shown = capsys.readouterr()
    assert "class=bright  0." in shown.out and "other=y  0." in shown.out and shown.err.count("ERROR") == 1
    with pytest.raises(ValueError, match="1 of 3 files could not be read"):
        predictor.check_all_predicted(rows)
    predictor.check_all_predicted([rows[0], rows[2]])
    with pytest.raises(ValueError, match="None of 1 file could be"):
        predictor.report_rows([rows[1]], CLASSES, None, str(tmp_path / "none.png"))
    assert not (tmp_path / "none.png").exists()


def exported(folder: Path, **changes: object) -> Path:
    """A folder in the form of an exported model, with a file that no runtime can read."""
    folder.mkdir()
    (folder / "model.xml").write_text("<net/>")
    card = {
        **BASE,
        "card_version": CARD_VERSION,
        "params": 1,
        "format": "openvino",
        "precision": "fp32",
        "file": "model.xml",
    }
    card |= {"outputs": CLASSES, "score": "acc", "files": {"model.xml": predictor.sha256(folder / "model.xml")}}
    (folder / CARD).write_text(json.dumps({**card, **changes}))
    return folder


def test_what_is_wrong_with_an_exported_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no exported model"):
        read_card(tmp_path)
    with pytest.raises(ValueError, match=f"is of version 0, but this program reads {CARD_VERSION}: export it again"):
        read_card(exported(tmp_path / "old", card_version=0))
    (exported(tmp_path / "cut") / "model.xml").write_text("<ne")
    with pytest.raises(ValueError, match=r"model\.xml is truncated or damaged"):
        read_card(tmp_path / "cut")
    (exported(tmp_path / "gone") / "model.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.xml is missing"):
        read_card(tmp_path / "gone")
    bad = [f'{{"card_version": {CARD_VERSION}}}', '{"card_version": 1, "format": "x", "files": {}, "file": "y"}']
    for number, text in enumerate(["{", "[]", '{"files": 3}', "\udcff", *bad]):
        (exported(tmp_path / str(number)) / CARD).write_text(text, errors="surrogateescape")
        with pytest.raises(ValueError, match=r"model.json is damaged"):
            read_card(tmp_path / str(number))
    for changes in (
        {"outputs": ["class"]},
        {"outputs": {"class": {}}},
        {"outputs": {"class": {"kind": ["classes"]}}},
        {"file": "/etc/passwd"},
        {"files": {"../model.xml": "0"}, "file": "../model.xml"},
        {"format": "x"},
    ):
        folder = exported(tmp_path / str(len(list(tmp_path.iterdir()))), **changes)
        with pytest.raises(ValueError, match=r"model\.json is damaged"):
            read_card(folder)
    with pytest.raises(ValueError, match=r"may run code that it holds.*trusted=true"):
        predictor.load(exported(tmp_path / "code", format="torch"))
    with pytest.raises(ValueError, match=r"model\.xml cannot be loaded by openvino"):
        predictor.load(exported(tmp_path / "strange"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "file"])
@pytest.mark.parametrize("name", ["model.xml", "model.bin", CARD, "sub/weights"])
def test_only_files_on_record_are_given_to_a_runtime(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("<net/>")
    folder = exported(tmp_path / "model")
    path = folder / name
    if name == CARD:
        path.rename(tmp_path / "other")
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    place = {
        "pipe": os.mkfifo,
        "link": lambda path: path.symlink_to(tmp_path / "other"),
        "folder": Path.mkdir,
        "file": lambda path: path.write_text("mine"),
    }[kind]
    place(path)
    if name == "sub/weights" and kind != "pipe":  # other files in the folder are the user's
        assert read_card(folder)["format"] == "openvino"
        return
    sentence = {
        "model.xml": "is not a regular file" if kind != "file" else "is truncated or damaged",
        "model.bin": r"is not listed in model\.json",
        CARD: {"link": "is not a regular file", "file": "is damaged"}.get(kind, "holds no exported model"),
        "sub/weights": "is neither a file nor a folder",
    }[name]
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        read_card(folder)


def test_a_card_from_before_outputs_had_kinds_is_read(tmp_path: Path) -> None:
    """A card of version 1: the class names of each head."""
    folder = exported(tmp_path / "model", card_version=1)
    card = json.loads((folder / CARD).read_text())
    del card["outputs"], card["score"]
    (folder / CARD).write_text(json.dumps({**card, "heads": {"class": ["a", "b"]}, "test_acc": 0.5}))
    found = read_card(folder)
    assert found["outputs"] == CLASSES and "heads" not in found
    assert (found["score"], found["test_acc"]) == ("acc", 0.5)
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"model\.json is damaged"):
        read_card(folder)


def test_an_output_of_an_unknown_kind_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"output map is of the kind depth, .* knows classes, image, mask, vector\.$"):
        Predictor({**BASE, "outputs": {"map": {"kind": "depth"}}}, brightness)


def inverted(images: np.ndarray) -> dict[str, np.ndarray]:
    """Pixels of a net that returns the negative of each image, in [-0.01, 1.01]."""
    return {"image": 1.02 * (1 - (images * 0.25 + 0.5)) - 0.01}


@pytest.fixture
def inverter() -> Predictor:
    return Predictor({**BASE, "outputs": {"image": {"kind": "image"}}}, inverted)


def test_predicted_images_are_written_for_each_input_and_replace_nothing(
    inverter: Predictor, shots: Path, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    shutil.copy(shots / "deep" / "dark.png", tmp_path / "more" / "dark.png")
    Image.new("L", (8, 8), 100).save(tmp_path / "more" / "dark.bmp")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dark_image_2.png").write_text("mine")
    rows = list(inverter.predict(find_images([str(shots), str(tmp_path / "more")]), images=tmp_path / "out"))
    written = {row["file"]: Path(row["image"]) for row in rows if "image" in row}
    assert (
        len(set(written.values())) == 4 and "image" not in rows[1] and "broken.png cannot be read" in rows[1]["error"]
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(path.name for path in written.values()),
        "dark_image_2.png",
    }
    assert (tmp_path / "out" / "dark_image_2.png").read_text() == "mine"
    for name, level in {shots / "bright 1, [x]=(y).png": 3, shots / "deep" / "dark.png": 252}.items():
        picture = Image.open(written[str(name)])
        assert (picture.mode, picture.format) == ("L", "PNG") and (np.asarray(picture) == level).all()
    assert Image.open(written[str(tmp_path / "more" / "dark.bmp")]).getpixel((0, 0)) == 156


@pytest.mark.parametrize("channels", [1, 3, 2])
def test_predicted_images_are_grey_or_coloured(channels: int, shots: Path, tmp_path: Path) -> None:
    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"../a b": np.full((len(images), channels, 4, 6), [2, 0.5, -1][channels - 1], np.float32)}

    model = Predictor({**BASE, "outputs": {"../a b": {"kind": "image"}}}, run)
    if channels == 2:
        with pytest.raises(ValueError, match=r"not an image of 1 or 3 channels: its shape is \(2, 4, 6\)"):
            list(model.predict([shots / "deep" / "dark.png"], images=tmp_path / "new" / "out"))
        return
    (row,) = model.predict([shots / "deep" / "dark.png"], images=tmp_path / "new" / "out")
    assert row["../a b"] == str(tmp_path / "new" / "out" / "dark____a_b.png")  # whatever an output is called
    with Image.open(row["../a b"]) as picture:
        assert picture.size == (6, 4) and picture.getpixel((0, 0)) == (255 if channels == 1 else (0, 0, 0))


def test_a_sheet_shows_what_went_in_beside_what_came_out(
    inverter: Predictor, shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, outputs = [shots / "deep" / "dark.png"], inverter.card["outputs"]
    rows = list(inverter.predict(paths, images=tmp_path / "out"))
    report_rows(rows, outputs, str(tmp_path / "out.csv"), str(tmp_path / "sheet.png"))
    shown = capsys.readouterr()
    assert shown.out == f"{paths[0]}  {tmp_path}/out/dark_image.png\n" and shown.err == ""
    with (tmp_path / "out.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"file": str(paths[0]), "image": f"{tmp_path}/out/dark_image.png"}]
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (156, 256, 3) and (sheet[64, 64] == 5).all() and (sheet[64, 192] == 252).all()
    report_rows(list(inverter.predict(paths)), outputs, None, None)
    shown = capsys.readouterr()
    assert shown.out == f"{paths[0]}\n" and "not kept; images=<folder> (predict.py: --images)" in shown.err


MASK = {"mask": {"kind": "mask", "names": ["background", "thing"], "colors": [[0, 0, 0], [200, 100, 0]]}}


def brighter(images: np.ndarray) -> dict[str, np.ndarray]:
    """Logits (B, 2, H, W) whose second is larger where a pixel is brighter than the middle."""
    return {"mask": np.concatenate([-images, images], axis=1)}


@pytest.mark.parametrize("size", [(40, 24), (6, 4)], ids=["stretched", "padded"])
def test_a_mask_is_written_in_the_size_of_its_photo_with_an_overlay(
    size: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    width, height = size
    levels = np.zeros((height, width), np.uint8)
    levels[:, width // 2 :] = 255
    photo = save(Image.fromarray(levels), tmp_path / "half.png")
    predictor = Predictor({**BASE, "outputs": MASK}, brighter)
    rows = list(predictor.predict([photo], images=tmp_path / "out"))
    assert rows[0] == {
        "file": str(photo),
        "mask_classes": "background 50.0%, thing 50.0%" if width == 40 else "background 81.2%, thing 18.8%",
        "mask": str(tmp_path / "out" / "half_mask.png"),
        "mask_overlay": str(tmp_path / "out" / "half_mask_overlay.png"),
    }
    with Image.open(rows[0]["mask"]) as mask:
        assert (mask.mode, mask.size) == ("P", size) and mask.getpalette()[:6] == [0, 0, 0, 200, 100, 0]
        assert (np.asarray(mask) == (levels > 0)).all()
    with Image.open(rows[0]["mask_overlay"]) as overlay:
        assert overlay.getpixel((0, 0)) == (0, 0, 0)
        assert overlay.getpixel((width - 1, 0)) == pytest.approx((227, 177, 127), abs=1)
    report_rows(rows, MASK, None, str(tmp_path / "sheet.png"))
    assert Image.open(tmp_path / "sheet.png").size == (256, 156)
    without = next(iter(predictor.predict([photo])))
    assert list(without) == ["file", "mask_classes"]
    report_rows([without], MASK, None, None)
    assert "not kept; images=<folder>" in capsys.readouterr().err


def test_what_a_cropped_model_does_not_see_is_255_in_the_mask(tmp_path: Path) -> None:
    photo = save(Image.new("L", (64, 32), 255), tmp_path / "wide.png")
    predictor = Predictor({**BASE, "resize": "centre_crop", "outputs": MASK}, brighter)
    (row,) = predictor.predict([photo], images=tmp_path / "out")
    mask = np.asarray(Image.open(row["mask"]))
    assert (mask[2:30, 18:46] == 1).all() and (mask == 1).sum() == 28 * 28 and (mask == 255).sum() == 64 * 32 - 28 * 28


def test_a_vector_is_told_by_its_numbers(shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        numbers = np.array([[1 / 3, -2e-9, 1, 2, 3]], np.float32).repeat(len(images), axis=0)
        return {"code": numbers, "class": numbers[:, :2]}

    model = Predictor({**BASE, "outputs": {"code": {"kind": "vector"}, **CLASSES}}, run)
    rows = list(model.predict([shots / "deep" / "dark.png"]))
    assert rows[0]["code"] == [0.333333, -2e-09, 1.0, 2.0, 3.0] and rows[0]["class"] == "a"
    report_rows(rows, model.card["outputs"], str(tmp_path / "rows.csv"), str(tmp_path / "sheet.png"))
    shown = capsys.readouterr()
    assert "code=[0.3333, -2e-09, 1, 2, …]  class=a  0.58" in shown.out and not shown.err
    with (tmp_path / "rows.csv").open() as file:
        assert json.loads(next(csv.DictReader(file))["code"]) == rows[0]["code"]
    predictor.write_rows(rows, tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert Image.open(tmp_path / "sheet.png").size == (128, 156)


def codes(images: np.ndarray) -> dict[str, np.ndarray]:
    """Two vectors whose numbers all differ, and classes."""
    mean = images.mean(axis=(1, 2, 3))[:, None]
    return {"code": mean / np.float32([3, 7, 11]), "allow_pickle": -mean, "class": mean * np.float32([-1, 1])}


def test_vectors_are_saved_in_full_precision_with_the_names_of_their_files(shots: Path, tmp_path: Path) -> None:
    outputs = {"code": {"kind": "vector"}, "allow_pickle": {"kind": "vector"}, **CLASSES}
    model = Predictor({**BASE, "outputs": outputs}, codes)
    paths = [*find_images([str(shots)]), *[shots / "deep" / "dark.png"] * predictor.BATCH_SIZE]
    (tmp_path / "codes.npz").write_text("former")
    rows = list(model.predict(paths, vectors=tmp_path / "codes.npz"))
    predicted = [row["file"] for row in rows if "error" not in row]
    assert len(predicted) == len(paths) - 1
    with np.load(tmp_path / "codes.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"file", "code", "allow_pickle"} and arrays["file"].tolist() == predicted
        inputs = np.stack([to_input(read_image(path, "L"), model.card) for path in predicted])
        for name in ("code", "allow_pickle"):
            assert arrays[name].dtype == np.float32 and np.array_equal(arrays[name], codes(inputs)[name])
    assert {path.name for path in tmp_path.iterdir()} == {"shots", "codes.npz"}


def test_vectors_replace_a_file_only_when_they_are_whole(
    judge: Predictor, shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "codes.npz"
    path.write_text("former")
    with pytest.raises(ValueError, match=r"vectors=.*codes\.npz would be empty: no output of the model is a vector"):
        list(judge.predict([shots / "deep" / "dark.png"], vectors=path))
    model = Predictor({**BASE, "outputs": {"code": {"kind": "vector"}}}, lambda images: {"code": images[:, 0, 0]})
    list(model.predict([shots / "broken.png"], vectors=path))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is full"):
        patch.setattr(np.lib.format, "write_array", raise_full)
        list(model.predict([shots / "deep" / "dark.png"], vectors=path))
    assert path.read_text() == "former" and {file.name for file in tmp_path.iterdir()} == {"shots", "codes.npz"}
    with pytest.raises(ValueError, match=r"vectors=a\.npy must end in \.npz"):
        predictor.check_outputs(None, None, None, "a.npy")


def raise_full(*arguments: object, **options: object) -> None:
    raise OSError("the disk is full")


def test_a_folder_for_images_is_new_or_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"images=.* already holds files: name a new or an empty folder"):
        predictor.check_outputs(None, None, tmp_path)
    with pytest.raises(ValueError, match="file is a file: name a folder"):
        predictor.check_outputs(None, None, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new", None):
        predictor.check_outputs(None, None, folder)


def test_a_missing_runtime_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install onnxruntime.*\[deploy\]"):
        predictor.load(exported(tmp_path / "model", format="onnx"))


@pytest.mark.parametrize(("module", "package"), [("numpy", "numpy"), ("PIL", "pillow")])
def test_what_every_format_needs_is_named_where_it_is_missing(module: str, package: str, tmp_path: Path) -> None:
    shutil.copy(str(predictor.__file__), tmp_path / "predict.py")
    code = f"import runpy, sys; sys.modules['{module}'] = None; sys.argv[1:] = ['photo.png']; "
    code += "runpy.run_path('predict.py', run_name='__main__')"
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("ERROR: ") and result.stderr.endswith(f"pip install {package}\n")
    assert len(result.stderr.splitlines()) == 1


def test_what_a_runtime_needs_for_a_model_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    for name in [name for name in sys.modules if name.startswith("torchao.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"in the format torch, .* pip install torchao,"):
        predictor.load(exported(tmp_path / "model", format="torch", precision="int8"), trusted=True)


@pytest.mark.parametrize("fonts", [(), predictor.FONTS], ids=["Pillow's own font alone", "all that are here"])
def test_names_are_drawn_by_a_font_that_has_their_letters_or_told_in_ascii(
    fonts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "FONTS", fonts)
    predictor.fonts.cache_clear()
    for name, in_ascii in {"cat": "cat", "Straße": "Strasse", "café": "cafe", "日本": "\\u65e5\\u672c"}.items():
        font, text = predictor.drawable(name)
        assert text == (name if all(predictor.has_glyph(font, letter) for letter in name) else in_ascii)
        assert all(predictor.has_glyph(font, letter) for letter in text)
    assert not predictor.has_glyph(font, "\U0010fffd") and not predictor.has_glyph(font, "\udcff")
    if not fonts:
        assert predictor.drawable("Straße")[1] == "Strasse"
    predictor.fonts.cache_clear()


def test_the_names_on_a_sheet_are_shortened_to_their_place(tmp_path: Path) -> None:
    image = save(Image.new("RGB", (8, 8)), tmp_path / "i.png")
    for name in ("日本" * 9, "wide" * 9):
        row = {"file": str(image), "class": name, "class_probability": 1.0}
        predictor.contact_sheet([row, row], CLASSES, tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert (np.asarray(sheet)[128:156, 126:] == 255).all()  # right of the first image's lines


def test_the_file_runs_by_itself_and_answers_mistakes_with_a_sentence(tmp_path: Path) -> None:
    folder = exported(tmp_path / "model")
    shutil.copy(str(predictor.__file__), folder / "predict.py")
    result = subprocess.run(
        [sys.executable, "-I", str(folder / "predict.py"), "none.png"], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 1 and result.stderr.startswith("ERROR: ") and "Traceback" not in result.stderr
    (tmp_path / CARD).touch()  # any file will do, because it is not read
    (folder / CARD).unlink()
    result = subprocess.run(
        [sys.executable, "-I", str(folder / "predict.py"), CARD], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 1 and "holds no exported model" in result.stderr


def test_stretching_is_antialiased() -> None:
    """A fine chequerboard turns grey; without antialiasing it would turn black or white."""
    board = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    board[..., ::2, 1::2] = board[..., 1::2, ::2] = 255
    ours = np.asarray(fit_image(Image.fromarray(board[0, 0].numpy()), "pad_or_stretch", 16))
    theirs = F.interpolate(board, (16, 16), mode="bilinear", antialias=True)[0, 0].numpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 1 and abs(ours.mean() - 127.5) < 2


def test_onnx_runtime_is_told_not_to_report_before_it_is_imported() -> None:
    code = "import os; from src.predictor import without_telemetry as w; w(); "
    code += "print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['ORT_TELEMETRY_DISABLED'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.split() == ["1", "1"]


def test_what_is_written_replaces_the_file_that_is_named_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "table.csv.tmp").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "table.csv").write_text("former")
    predictor.write_rows([{"file": "a.png", "class": "7"}], tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "file,class\na.png,7\n"
    assert (tmp_path / "table.csv.tmp").read_text() == "mine" and len(list(tmp_path.iterdir())) == 3
    with pytest.raises(ValueError, match=r"out=.*folder\.csv is a folder: name a file"):
        predictor.check_outputs(tmp_path / "folder.csv", None)


def test_a_card_that_is_nested_without_end_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"model\.json is damaged"):
        read_card(tmp_path)


def test_no_format_is_read_that_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **_: started.append(arguments))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    (tmp_path / "photo.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"photo\.png"):
        read_image(tmp_path / "photo.png", "RGB")
    assert not started


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "CMYK"},
        {"mode": ["L"]},
        {"resize": "crop"},
        {"image_size": "x"},
        {"image_size": 0},
        {"image_size": 10**9},
        {"image_size": 8.0},
        {"image_size": True},
        {"mean": 0.5},
        {"mean": ["0.5"]},
        {"mean": [float("nan")]},
        {"mean": [0.5, 0.5]},
        {"std": [0.0]},
        {"std": [-1]},
        {"std": []},
        {"std": [1e-300]},
        {"outputs": {}},
        {"outputs": {"class": {"kind": "classes"}}},
        {"outputs": {"class": {"kind": "classes", "names": []}}},
        {"outputs": {"class": {"kind": "classes", "names": "ab"}}},
        {"outputs": {"class": {"kind": "classes", "names": ["a", 1]}}},
        {"outputs": {"mask": {"kind": "mask", "names": ["a"]}}},
        {"outputs": {"mask": {"kind": "mask", "names": [], "colors": []}}},
        {"outputs": {"mask": {"kind": "mask", "names": ["a"], "colors": [[0, 0, 256]]}}},
        {"outputs": {"mask": {"kind": "mask", "names": ["a"], "colors": [[0, 0, 0], [1, 1, 1]]}}},
        {"outputs": {"mask": {"kind": "mask", "names": ["a"], "colors": [[0, 0]]}}},
        {"format": ["openvino"]},
        {"precision": 32},
        {"params": "many"},
        {"score": None},
        {"test_acc": "good"},
        {"files": {"model.xml": 3}},
        {"file": ["model.xml"]},
    ],
    ids=str,
)
def test_an_entry_of_a_card_that_is_of_no_use_is_named(changes: dict[str, object], tmp_path: Path) -> None:
    read_card(exported(tmp_path / "sound"))
    folder = exported(tmp_path / "model", **changes)
    name = next(iter(changes)).replace("test_acc", "score")
    with pytest.raises(ValueError, match=rf"model\.json is damaged: {name}=.* must be .*\. Export the model again\.$"):
        read_card(folder)


@pytest.mark.parametrize("heads", [{"class": []}, {}, ["a"], None, 3])
def test_a_former_card_whose_classes_are_of_no_use_is_damaged(heads: object, tmp_path: Path) -> None:
    folder = exported(tmp_path / "model", card_version=1, heads=heads)
    shutil.copy(str(predictor.__file__), folder / "predict.py")
    (tmp_path / "photo.png").touch()
    command = [sys.executable, "-I", str(folder / "predict.py"), "photo.png"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("ERROR: ") and "model.json is damaged" in result.stderr


def fails(images: np.ndarray) -> dict[str, np.ndarray]:
    raise RuntimeError("Got: 8\nExpected: 28")


MISFITS = {
    "another size": (fails, r"^The model fails on inputs of shape \(1, 8, 8\): Got: 8 Expected: 28$"),
    "more classes": (lambda images: {"class": np.zeros((len(images), 3))}, r"shape \(3,\), but .* names of 2 classes"),
    "a map of classes": (lambda images: {"class": np.zeros((len(images), 2, 4))}, r"shape \(2, 4\), but .* 2 classes"),
    "another output": (brightness, "outputs are class, other: its card names others"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_model_that_does_not_fit_its_card_is_answered_with_a_sentence(name: str, shots: Path) -> None:
    run, sentence = MISFITS[name]
    with pytest.raises(ValueError, match=sentence):
        list(Predictor({**BASE, "outputs": CLASSES}, run).predict([shots / "deep" / "dark.png"]))


def test_a_spreadsheet_computes_nothing_of_names(tmp_path: Path) -> None:
    names = ["=1+1", "+1", "-1", "@sum(a1)", "\tx", "\rx", "\nx"]
    rows = [{"file": name, "class": name, "class_probability": 0.5, "code": [-1.0]} for name in [*names, "a=b", "'x"]]
    predictor.write_rows(rows, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    wanted = [*(f"'{name}" for name in names), "a=b", "'x"]
    assert [row["file"] for row in table] == [row["class"] for row in table] == wanted
    assert {(row["class_probability"], row["code"]) for row in table} == {("0.5", "[-1.0]")}
    predictor.write_rows(rows, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == rows


def test_a_sheet_has_room_for_names_of_several_lines(tmp_path: Path) -> None:
    image = save(Image.new("RGB", (8, 8)), tmp_path / "a\nb.png")
    row = {"file": str(image), "class": "c\r\nd", "class_probability": 1.0}
    predictor.contact_sheet([row], CLASSES, tmp_path / "sheet.png")
    plain = save(Image.new("RGB", (8, 8)), tmp_path / "a?b.png")
    predictor.contact_sheet([{**row, "file": str(plain), "class": "c??d"}], CLASSES, tmp_path / "plain.png")
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_a_card_whose_files_are_no_mapping_is_damaged(tmp_path: Path) -> None:
    card = {"card_version": 1, "format": "onnx", "file": "a", "files": ["a"]}
    keys = ("mode", "resize", "image_size", "mean", "std", "heads", "precision", "params")
    (tmp_path / CARD).write_text(json.dumps({**card, **dict.fromkeys(keys, 1)}))
    with pytest.raises(ValueError, match="is damaged"):
        read_card(tmp_path)


def test_names_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"file": "a\x1b[2K\ncat.png", "class": "b\x07", "class_probability": 1.0}
    report_rows([row, {"file": "x", "error": "c\x1b"}], CLASSES, None, None)
    shown = capsys.readouterr()
    assert shown.out == "a?[2K?cat.png  b?  1.0000\n" and shown.err == "ERROR: c?\n"
