"""Predict from arrays, tensors, images and texts in memory, and from files as `src/predict.py` reads them.

Preprocessing and decoding are done by `src.predictor`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from src.predictor import (
    BATCH_SIZE,
    IMAGE,
    KINDS,
    Predictor,
    Request,
    class_probabilities,
    find_files,
    fit_series,
    fit_tokens,
    in_mode,
    in_units,
    input_kind,
    to_input,
    to_tokens,
)

GREY, COLOURED = (1,), (3, 4)  # numbers of channels


@dataclass(frozen=True)
class Predictions(Sequence[dict[str, Any]]):
    """The predictions of a net: a row for each input.

    Args:
        rows: as `src/predict.py` writes them for files; under the name of each output, the likeliest class, with
            `<name>_probability` and, with `top` above 1, `<name>_2` and so on; or the numbers of a vector.
        outputs: by name: the probabilities (N, classes) of classes, the class (N, H, W) of each pixel of a mask, images
            (N, C, H, W) with values in [0, 1], vectors (N, …) in the units of the data.
        names: the names of the classes of each output that has classes.
    """

    rows: list[dict[str, Any]]
    outputs: dict[str, np.ndarray]
    names: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    @property
    def classes(self) -> list[str]:
        """Return the likeliest class of each input.

        Raises:
            ValueError: the net has several outputs, or none of classes.
        """
        name = self._of_classes()
        return [row[name] for row in self.rows]

    @property
    def probabilities(self) -> np.ndarray:
        """Return the probability of each class (N, classes), in the order of `names`; raises as `classes` does."""
        return self.outputs[self._of_classes()]

    def _of_classes(self) -> str:
        named = [name for name in self.names if self.outputs[name].ndim == 2]
        if len(named) != 1:
            raise ValueError(
                f"The outputs of this net are {', '.join(self.outputs)}, of which {len(named)} are classes of the "
                "whole input: choose one of them in .outputs or .rows."
            )
        return named[0]


def predict(predictor: Predictor, values: Any, top: int = 1) -> Predictions:
    """Predict one input or several.

    Args:
        predictor: the net.
        values: a file, a folder or a pattern; an image; an array or a tensor of one input or of several; or a list of
            any of these. For a net that reads text, a string is a text, and a `Path` names files. See `from_array` for
            the layout of arrays.
        top: the number of classes in a row.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an input cannot be read, or does not fit the net; or an output is not finite.
    """
    if top < 1:
        raise ValueError(f"top={top} must be at least 1.")
    card = predictor.card
    inputs = list(inputs_of(values, card))
    if not inputs:
        raise ValueError("There is nothing to predict: the list is empty.")
    parts = []
    for start in range(0, len(inputs), BATCH_SIZE):
        batch = np.stack([array for array, _ in inputs[start : start + BATCH_SIZE]])
        parts.append(predictor.results(batch))
    described = card["outputs"]
    results = {name: in_units(np.concatenate([part[name] for part in parts]), described[name]) for name in parts[0]}
    rows: list[dict[str, Any]] = []
    for index, (_, file) in enumerate(inputs):
        rows.append({} if file is None else {"file": str(file)})
        for name, output in results.items():
            if not np.isfinite(output[index]).all():
                raise ValueError(f"Input {index} has no prediction: the model's output {name} is not finite.")
            request = Request(file or Path(str(index)), top, None, card)
            rows[-1] |= KINDS[described[name]["kind"]](name, output[index], described[name], request)
    names = {name: list(output["names"]) for name, output in described.items() if "names" in output}
    return Predictions(rows, {name: decoded(one, described[name]) for name, one in results.items()}, names)


def decoded(output: np.ndarray, card: Mapping[str, Any]) -> np.ndarray:
    """Turn logits (N, classes) into probabilities, and those of pixels (N, classes, H, W) into classes (N, H, W)."""
    if card["kind"] == "mask":
        return output.argmax(axis=1)
    if card["kind"] != "classes":
        return output
    return class_probabilities(output, card)


def inputs_of(values: Any, card: Mapping[str, Any]) -> Iterator[tuple[np.ndarray, Path | None]]:
    """Yield the net's input (…) for each of the values, with its file if it was read from one."""
    kind, name = input_kind(card), card.get("input", IMAGE)
    if isinstance(values, str) and name == "tokens":
        yield fit_tokens(to_tokens(values), card), None
    elif isinstance(values, str | Path):
        try:
            paths = find_files([str(values)], [kind])
        except FileNotFoundError as error:
            raise FileNotFoundError(str(error).removeprefix("input=")) from None  # a key of the command line
        for path in paths:
            yield kind.read(path, card), path
    elif isinstance(values, Image.Image):
        if name != IMAGE:
            raise ValueError(f"An image is given, but this net reads {kind.noun}.")
        try:
            yield to_input(in_mode(values, card["mode"]), card), None
        except ValueError as error:
            raise ValueError(f"An image cannot be read: {error}.") from error
    elif isinstance(values, np.ndarray | torch.Tensor):
        array = as_array(values) if isinstance(values, torch.Tensor) else values
        channels_first = isinstance(values, torch.Tensor)
        for one in from_array(array, card, channels_first):
            yield one, None
    elif isinstance(values, Sequence):
        for value in values:
            yield from inputs_of(value, card)
    else:
        raise ValueError(
            f"{type(values).__name__} cannot be predicted: give a file, an image, an array, a tensor, or a list of "
            "these."
        )


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return the values of a tensor; floats as float32, since NumPy has no bfloat16."""
    return (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()


def from_array(array: np.ndarray, card: Mapping[str, Any], channels_first: bool = False) -> Iterator[np.ndarray]:
    """Yield the net's inputs from an array of one or of several.

    Args:
        array: images (H, W), (H, W, C) or (C, H, W), or several (N, …), with pixels of 8 bits or floats in [0, 1];
            those that have the net's size already are not resized. Series (T, F) or (N, T, F), in the units of the
            data; tokens (T,) or (N, T).
        card: describes the inputs.
        channels_first: read (3, H, 3) as (C, H, W), as tensors are, rather than as (H, W, C).

    Raises:
        ValueError: it is none of these.
    """
    kind = card.get("input", IMAGE)
    if array.dtype.kind not in "iufb" or not array.size:
        raise ValueError(f"An array of {array.dtype} of the shape {array.shape} holds nothing to predict.")
    if kind == IMAGE:
        for pixels in split_images(array, card, channels_first):
            yield from_pixels(pixels, card)
        return
    rank = {"series": 2, "tokens": 1}[kind]
    if kind == "series" and card["features"] == 1 and array.ndim == 1:
        array = array[:, None]
    if array.ndim not in (rank, rank + 1):
        raise ValueError(f"An array of the shape {array.shape} is neither {input_kind(card).noun} nor a batch.")
    for one in array if array.ndim > rank else [array]:
        if kind == "series":
            try:
                yield fit_series(one, range(1, len(one) + 1), [], card)
            except ValueError as error:
                raise ValueError(f"An array cannot be read as a series: {error}.") from error
        else:
            if one.dtype.kind not in "iu" or one.min() < 0 or one.max() >= card["vocabulary_size"]:
                raise ValueError(f"Tokens are integers from 0 to {card['vocabulary_size'] - 1}.")
            yield fit_tokens(one.astype(np.int64), card)


def split_images(array: np.ndarray, card: Mapping[str, Any], channels_first: bool) -> Iterator[np.ndarray]:
    """Yield the images (H, W) or (H, W, C) in an array of one or of several.

    Raises:
        ValueError: the array has another shape, or is ambiguous.
    """
    counts = GREY + COLOURED
    if array.ndim == 2:
        yield array
    elif array.ndim == 4:
        for image in array:
            yield as_channels_last(image, channels_first)
    elif array.ndim == 3 and array.shape[0] not in counts and array.shape[2] not in counts:
        yield from array  # grey images (N, H, W)
    elif array.ndim == 3 and card["mode"] == "L" and array.shape[0] in COLOURED and array.shape[2] not in counts:
        count = array.shape[0]
        raise ValueError(
            f"An array of the shape {array.shape} may be {count} grey images or one of {count} channels: give "
            f"{(count, 1, *array.shape[1:])} or {(*array.shape[1:], count)}."
        )
    elif array.ndim == 3:
        yield as_channels_last(array, channels_first)
    else:
        raise ValueError(
            f"An array of the shape {array.shape} is not an image: give (H, W), (H, W, C) or several of them."
        )


def as_channels_last(image: np.ndarray, channels_first: bool) -> np.ndarray:
    """Return an image (H, W, C) that may be (C, H, W); raise ValueError if neither end is an axis of channels."""
    first, last = (image.shape[end] in GREY + COLOURED for end in (0, 2))
    if not first and not last:
        raise ValueError(f"An image of the shape {image.shape} has no axis of 1, 3 or 4 channels, first or last.")
    return image.transpose(1, 2, 0) if first and (channels_first or not last) else image


def from_pixels(pixels: np.ndarray, card: Mapping[str, Any]) -> np.ndarray:
    """Turn an image (H, W) or (H, W, C) into an input of the net (C, H, W); see `from_array`."""
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * 255
    low, high = (float(edge) for edge in (pixels.min(), pixels.max()))
    limit = 1 if pixels.dtype.kind == "f" else 255
    if not 0 <= low <= high <= limit:  # also NaN
        raise ValueError(
            f"Pixels from {low:g} to {high:g} are of unknown scale: give integers from 0 to 255, or floats from 0 to "
            "1. If they are normalised already, call run.net(…) with them."
        )
    levels = (pixels * 255).round().astype(np.uint8) if limit == 1 else pixels.astype(np.uint8)
    if levels.ndim == 3 and levels.shape[2] == 1:
        levels = levels[..., 0]
    image = in_mode(Image.fromarray(np.ascontiguousarray(levels)), card["mode"])
    fitted = image.size == (card["image_size"],) * 2
    return to_input(image, {**card, "resize": "pad_or_stretch"} if fitted else card)
