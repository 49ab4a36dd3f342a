"""Predicting from memory: how arrays, tensors, images and texts are interpreted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.deploy.predictions import Predictions, predict
from src.predictor import Predictor, to_tokens

NAMES = ["dark", "light"]
SERIES = {"input": "series", "length": 3, "features": 2, "mean": [1.0, 2.0], "std": [2.0, 4.0]}
TOKENS = {"input": "tokens", "length": 4, "vocabulary_size": 257}


def image_card(mode: str = "L", size: int = 8, resize: str = "pad_or_stretch") -> dict[str, Any]:
    return {"mode": mode, "resize": resize, "image_size": size, "mean": [0.0], "std": [1.0]}


def seen_by(card: dict[str, Any], values: Any) -> np.ndarray:
    """The inputs (N, …) that a net would get."""
    seen: list[np.ndarray] = []

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(inputs)
        return {"out": np.zeros((len(inputs), 2), np.float32)}

    predict(Predictor({**card, "outputs": {"out": {"kind": "classes", "names": NAMES}}}, run), values)
    return np.concatenate(seen)


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
RGB = np.stack([GREY, GREY + 1, GREY + 2])  # (3, 8, 8)
ROUND = np.arange(5 * 6, dtype=np.uint8).reshape(5, 6)


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("L", GREY, [GREY]),
        ("L", GREY[None], [GREY]),
        ("L", GREY[..., None], [GREY]),
        ("L", GREY / 255, [GREY]),
        ("L", torch.tensor(GREY), [GREY]),
        ("L", torch.tensor(GREY / 255).float()[None], [GREY]),
        ("L", GREY > 70, [np.where(GREY > 70, 255, 0)]),
        ("L", Image.fromarray(GREY), [GREY]),
        ("L", np.stack([GREY] * 5), [GREY] * 5),
        ("L", np.stack([GREY, GREY + 1])[:, None], [GREY, GREY + 1]),
        ("L", [GREY, Image.fromarray(GREY + 1), torch.tensor(GREY)], [GREY, GREY + 1, GREY]),
        ("RGB", RGB, [RGB]),
        ("RGB", RGB.transpose(1, 2, 0), [RGB]),
        ("RGB", np.stack([RGB, RGB]), [RGB, RGB]),
        ("RGB", torch.tensor(np.stack([RGB, RGB])), [RGB, RGB]),
        ("RGB", GREY, [np.stack([GREY] * 3)]),
        ("RGB", np.concatenate([RGB, np.full((1, 8, 8), 255, np.uint8)]), [RGB]),
    ],
    ids=[
        "grey",
        "grey_first",
        "grey_last",
        "floats",
        "tensor",
        "float_tensor",
        "bool",
        "image",
        "batch",
        "channels",
        "list",
        "rgb_first",
        "rgb_last",
        "rgb_batch",
        "rgb_tensors",
        "grey_for_rgb",
        "opaque",
    ],
)
def test_images_are_taken_for_what_they_are(mode: str, values: Any, expected: list[np.ndarray]) -> None:
    inputs = seen_by(image_card(mode), values)
    channels = 1 if mode == "L" else 3
    assert inputs.shape == (len(expected), channels, 8, 8)
    assert inputs * 255 == pytest.approx(np.stack(expected).reshape(inputs.shape), abs=1e-4)


def test_a_square_of_three_pixels_has_its_channels_first_in_tensors_alone() -> None:
    cube = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    card = image_card("RGB", size=3)
    assert (seen_by(card, torch.tensor(cube)) * 255).round() == pytest.approx(cube[None])
    assert (seen_by(card, cube) * 255).round() == pytest.approx(cube.transpose(2, 0, 1)[None])


def test_images_of_another_size_are_fitted_as_files_are_and_those_of_the_net_s_left(tmp_path: Path) -> None:
    Image.fromarray(ROUND).save(tmp_path / "a.png")
    for card in (image_card(), image_card(size=12), image_card(resize="centre_crop", size=7)):
        from_file = seen_by(card, str(tmp_path / "a.png"))
        for values in (ROUND, Image.open(tmp_path / "a.png"), tmp_path, f"{tmp_path}/*.png"):
            assert (seen_by(card, values) == from_file).all()
    cropped = image_card(resize="centre_crop")
    assert (seen_by(cropped, GREY) * 255).round() == pytest.approx(GREY[None, None])
    assert not np.allclose(seen_by(cropped, Image.fromarray(GREY)), seen_by(cropped, GREY))  # as predict.py does


def test_series_are_in_their_own_units_and_texts_are_texts(tmp_path: Path) -> None:
    series = np.arange(6.0).reshape(3, 2)
    normalised = (series - [1, 2]) / [2, 4]
    assert seen_by(SERIES, series) == pytest.approx(normalised[None])
    assert seen_by(SERIES, np.stack([series, series])) == pytest.approx(np.stack([normalised] * 2))
    one = {**SERIES, "features": 1, "mean": [0.0], "std": [1.0]}
    assert seen_by(one, np.array([1, 2, 3])).shape == (1, 3, 1)
    assert seen_by(TOKENS, ["ab", "abcdef"]).tolist() == [[*to_tokens("ab"), 0, 0], to_tokens("abcd").tolist()]
    assert seen_by(TOKENS, np.array([[1, 2], [3, 0]])).tolist() == [[1, 2, 0, 0], [3, 0, 0, 0]]
    (tmp_path / "a.txt").write_text("xy")
    assert seen_by(TOKENS, tmp_path / "a.txt").tolist() == [[*to_tokens("xy"), 0, 0]]


@pytest.mark.parametrize(
    ("card", "values", "sentence"),
    [
        (image_card(), GREY * 1.5, "unknown scale: give integers from 0 to 255, or floats from 0 to 1"),
        (image_card(), np.full((8, 8), np.nan), "unknown scale"),
        (image_card(), GREY.astype(int) - 1, "Pixels from -1 to 188"),
        (image_card(), RGB, r"may be 3 grey images or one of 3 channels: give \(3, 1, 8, 8\) or \(8, 8, 3\)"),
        (image_card(), np.zeros((2, 5, 6, 7)), "has no axis of 1, 3 or 4 channels"),
        (image_card(), np.zeros(7), "is not an image"),
        (image_card(), np.array(["a"]), "holds nothing to predict"),
        (image_card(), Image.new("F", (4, 4)), "An image cannot be read: its pixels are floating-point"),
        (image_card(), [], "nothing to predict: the list is empty"),
        (image_card(), 3, "int cannot be predicted: give a file"),
        (image_card(), "none.png", "^none.png matches no image"),
        (SERIES, Image.new("L", (4, 4)), "An image is given, but this net reads a series"),
        (SERIES, np.zeros((4, 2)), "it has 4 steps, but the model takes length=3"),
        (SERIES, np.zeros((1, 1, 3, 2)), "is neither a series nor a batch"),
        (TOKENS, np.array([1, 999]), "Tokens are integers from 0 to 256"),
    ],
    ids=[
        "scale",
        "nan",
        "negative",
        "ambiguous",
        "no_channels",
        "row",
        "text",
        "float_image",
        "empty",
        "int",
        "file",
        "image",
        "steps",
        "rank",
        "token",
    ],
)
def test_what_cannot_be_predicted_is_refused_in_a_sentence(card: dict[str, Any], values: Any, sentence: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        seen_by(card, values)


def outputs(described: dict[str, dict[str, Any]], results: dict[str, np.ndarray], **options: Any) -> Predictions:
    return predict(Predictor({**image_card(), "outputs": described}, lambda inputs: results), [GREY, GREY], **options)


def test_every_kind_of_output_has_its_array() -> None:
    logits = np.array([[0.0, 1.0], [3.0, 0.0]], np.float32)
    described = {
        "tone": {"kind": "classes", "names": NAMES},
        "size": {"kind": "vector", "mean": [10.0], "std": [2.0], "columns": ["cm"]},
        "mask": {"kind": "mask", "names": NAMES, "colors": [[0, 0, 0], [9, 9, 9]]},
        "copy": {"kind": "image"},
    }
    pixels = np.zeros((2, 2, 8, 8), np.float32)
    pixels[1, 1] = 1
    found = outputs(
        described,
        {"tone": logits, "size": np.ones((2, 3, 1), np.float32), "mask": pixels, "copy": pixels[:, :1]},
        top=2,
    )
    assert found.classes == ["light", "dark"]
    assert found.probabilities == pytest.approx(torch.tensor(logits).softmax(1).numpy())
    assert found.outputs["size"] == pytest.approx(np.full((2, 3, 1), 12)) and found[0]["size"] == [12, 12, 12]
    assert found.outputs["mask"].shape == (2, 8, 8) and found.outputs["mask"].mean(axis=(1, 2)).tolist() == [0, 1]
    assert found.outputs["copy"].shape == (2, 1, 8, 8)
    assert found[0]["tone"] == "light" and found[0]["tone_2"] == "dark" and found[1]["mask_classes"] == "light 100.0%"
    assert found.names == {"tone": NAMES, "mask": NAMES} and len(found) == 2


def test_nets_of_several_outputs_have_no_single_classes() -> None:
    two = {name: {"kind": "classes", "names": NAMES} for name in ("a", "b")}
    with pytest.raises(ValueError, match="The outputs of this net are a, b, of which 2 are classes"):
        _ = outputs(two, dict.fromkeys(two, np.zeros((2, 2)))).classes


def test_what_is_not_finite_is_no_prediction() -> None:
    with pytest.raises(ValueError, match="Input 1 has no prediction: the model's output a is not finite"):
        outputs({"a": {"kind": "vector"}}, {"a": np.array([[0.0], [np.nan]])})
    with pytest.raises(ValueError, match="top=0 must be at least 1"):
        outputs({"a": {"kind": "vector"}}, {"a": np.zeros((2, 1))}, top=0)
