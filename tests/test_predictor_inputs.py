"""Inputs of a predictor besides images: series from .npy and .csv, text from .txt; bad files give one sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.predictor import (
    INPUTS,
    Predictor,
    check_card,
    check_drawable,
    fields_of,
    find_files,
    input_kind,
    input_shape,
    read_series,
    read_text,
    read_tokens,
    report_rows,
)

OUTPUTS = {"outputs": {"class": {"kind": "classes", "names": ["a", "b"]}}}
SERIES = {"input": "series", "length": 3, "features": 2, "mean": [1.0, 2.0], "std": [2.0, 4.0], **OUTPUTS}
TOKENS = {"input": "tokens", "length": 6, "vocabulary_size": 257, **OUTPUTS}
VALUES = np.array([[1, 2], [3, 6], [-1, 0.5]])
NORMALISED = np.array([[0, 0], [1, 1], [-1, -0.375]], dtype=np.float32)


def write(path: Path, content: str | bytes | np.ndarray) -> Path:
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_a_series_is_read_from_npy_and_normalised(kind: type, tmp_path: Path) -> None:
    series = read_series(write(tmp_path / "a.npy", VALUES.astype(kind)), SERIES)
    assert series.dtype == np.float32 and np.array_equal(series, NORMALISED)


@pytest.mark.parametrize(
    "text", ["1,2\n3,6\n-1,0.5\n", "x,y\n1,2\n\n3, 6\n-1,.5", "\ufeffx,y\r\n1,2\r\n3,6\r\n-1,5e-1"]
)
def test_a_series_is_read_from_csv_with_a_header_or_without(text: str, tmp_path: Path) -> None:
    assert np.array_equal(read_series(write(tmp_path / "a.CSV", text), SERIES), NORMALISED)


def test_a_series_of_one_feature_may_be_a_vector(tmp_path: Path) -> None:
    card = {**SERIES, "features": 1, "mean": [0.0], "std": [1.0]}
    assert read_series(write(tmp_path / "a.npy", np.arange(3)), card).tolist() == [[0], [1], [2]]
    assert read_series(write(tmp_path / "a.csv", "0\n1\n2\n"), card).tolist() == [[0], [1], [2]]


def test_a_text_becomes_its_bytes_plus_1_padded_or_cut(tmp_path: Path) -> None:
    assert read_tokens(write(tmp_path / "a.txt", "aé"), TOKENS).tolist() == [98, 0xC3 + 1, 0xA9 + 1, 0, 0, 0]
    assert read_tokens(write(tmp_path / "a.txt", "\ufeffabcdefgh"), TOKENS).tolist() == [98, 99, 100, 101, 102, 103]
    assert read_tokens(tmp_path / "a.txt", TOKENS).dtype == np.int64


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "", "it has no numbers"),
        ("a.csv", "x,y\n", "it has no numbers"),
        ("a.npy", np.zeros(()), "it is not an array of real numbers"),
        ("a.csv", "1,2\n3,4\n5,nan\n", "row 3, column 2 is nan"),
        ("a.csv", "x,y\n1,2\n\n\ninf,4\n5,6\n", "row 5, column x is inf"),
        ("a.csv", "x,y\n1,2\n3,n/a\n5,6\n", "row 3, column y is 'n/a'"),
        ("a.csv", "1,2\n3\n5,6\n", "row 2 has 1 columns, but the first has 2"),
        ("a.csv", "1,2,3\n" * 3, "it has 3 columns, but the model takes features=2"),
        ("a.csv", "1,2\n" * 4, "it has 4 steps, but the model takes length=3"),
        ("a.csv", b"\xff\xfe", "utf-8"),
        ("a.npy", np.full((3, 2), np.nan), "row 1, column 1 is nan"),
        ("a.npy", np.zeros((3, 2, 1)), r"it has the shape \(3, 2, 1\), but the model takes features=2"),
        ("a.npy", np.zeros((3, 2), dtype=complex), "it is not an array of real numbers"),
        ("a.npy", np.zeros((3, 2), dtype=bool), "it is not an array of real numbers"),
        ("a.npy", np.array([[{}, {}]] * 3), "it is damaged, or holds objects"),
        ("a.npy", b"", "it is damaged, or holds objects"),
        ("a.npy", b"\x93NUMPY", "it is damaged, or holds objects"),
        ("a.txt", "1,2", "its name must end in .npy or .csv"),
    ],
)
def test_a_bad_series_is_refused_in_a_sentence(name: str, content: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{name} cannot be read as a series: .*({reason})"):
        read_series(write(tmp_path / name, content), SERIES)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "", "it is empty"),
        ("a.txt", " \n\t", "it is empty"),
        ("a.txt", b"abc\xff", r"it is not in UTF-8 \(byte 4 is 0xff\)"),
        ("a.md", "abc", "its name must end in .txt"),
    ],
)
def test_a_bad_text_is_refused_in_a_sentence(name: str, content: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be read as text: {reason}"):
        read_tokens(write(tmp_path / name, content), TOKENS)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for suffix in ("npy", "csv"):
        with pytest.raises(ValueError, match=f"a.{suffix} cannot be read as a series: .*No such file"):
            read_series(tmp_path / f"a.{suffix}", SERIES)
    with pytest.raises(ValueError, match=r"a.txt cannot be read as text: .*No such file"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize(("card", "shape"), [(SERIES, (3, 2)), (TOKENS, (6,))], ids=["series", "tokens"])
def test_a_card_is_accepted_and_tells_the_shape(card: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    check_card(card, fields_of(card))
    assert input_shape(card) == shape


@pytest.mark.parametrize(
    ("card", "changes", "message"),
    [
        (SERIES, {"input": "video"}, "input=video must be one of image, series, tokens"),
        (SERIES, {"input": ["series"]}, "input=.* must be one of"),
        (SERIES, {"input": None}, "input=None must be one of"),
        (SERIES, {"length": 0}, "length=0 must be an integer from 1"),
        (SERIES, {"length": True}, "length=True must be an integer from 1"),
        (SERIES, {"features": 10**9}, "features=1000000000 must be an integer from 1"),
        (SERIES, {"mean": [1.0]}, "mean=.* must be a list of numbers, one per feature"),
        (SERIES, {"mean": 1.0}, "mean=1.0 must be a list of numbers, one per feature"),
        (SERIES, {"std": [1.0, 0.0]}, "std=.* must be a list of numbers above 0"),
        (SERIES, {"std": [1.0, float("nan")]}, "std=.* must be a list of numbers above 0"),
        (SERIES, {"outputs": {}}, "outputs={} must be the kind"),
        (TOKENS, {"length": 10**9}, "length=1000000000 must be an integer from 1"),
        (TOKENS, {"vocabulary_size": 256}, "vocabulary_size=256 must be 257"),
        (TOKENS, {"vocabulary_size": None}, "vocabulary_size=None must be 257"),
    ],
)
def test_a_hostile_card_is_refused(card: Mapping[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_card({**card, **changes}, fields_of({**card, **changes}))


def test_folders_are_searched_for_what_the_model_reads(tmp_path: Path) -> None:
    for name in ("a.png", "b.npy", "c.csv", "d.txt", ".e.txt", "f.md"):
        (tmp_path / name).touch()
    found = {kind: [path.name for path in find_files([str(tmp_path)], [INPUTS[kind]])] for kind in INPUTS}
    assert found == {"image": ["a.png"], "series": ["b.npy", "c.csv"], "tokens": ["d.txt"]}
    assert len(find_files([str(tmp_path)])) == 4
    (tmp_path / "deep").mkdir()
    with pytest.raises(FileNotFoundError, match="deep matches no text: name a file, a folder of such files"):
        find_files([str(tmp_path / "deep")], [INPUTS["tokens"]])
    with pytest.raises(FileNotFoundError, match="deep matches no image or series or text: "):
        find_files([str(tmp_path / "deep")])


def test_files_are_predicted_and_bad_ones_keep_their_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write(tmp_path / "a.txt", "abc"), write(tmp_path / "b.txt", "")
    seen = []

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(inputs)
        return {"class": np.array([[0.0, 9.0]] * len(inputs), dtype=np.float32)}

    rows = list(Predictor(TOKENS, run).predict([good, bad]))
    assert seen[0].tolist() == [[98, 99, 100, 0, 0, 0]]
    assert rows[0]["class"] == "b" and "it is empty" in rows[1]["error"]
    with pytest.raises(ValueError, match="None of 1 file could be read as text"):
        report_rows(rows[1:], TOKENS["outputs"], None, None)
    assert "it is empty" in capsys.readouterr().err


def test_only_images_are_drawn_on_a_sheet() -> None:
    check_drawable({"mode": "L"}, "all.png")
    check_drawable(TOKENS, None)
    for card, noun in ((SERIES, "a series"), (TOKENS, "text")):
        with pytest.raises(ValueError, match=f"sheet=all.png can show images only, but this model reads {noun}"):
            check_drawable(card, "all.png")
        assert input_kind(card).noun == noun
