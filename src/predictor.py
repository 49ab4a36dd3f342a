"""Predict with an exported model. Needs only numpy, Pillow and the model's runtime: openvino, onnxruntime or torch.

Every exported model comes with a copy of this file, `predict.py`:

    python predict.py photo.png 'more/*.jpg' --top 3 --out predictions.csv

Models of series read .npy and .csv files, models of text .txt files.
"""

import argparse
import csv
import hashlib
import importlib
import itertools
import json
import logging
import math
import os
import re
import secrets
import stat
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import ZipFile

try:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    package = "pillow" if str(error.name).startswith("PIL") else error.name
    sys.exit(f"ERROR: {package} is not installed, but exported models of every format need it: pip install {package}")

MODEL = "model."  # the prefix of a model's files
CARD = f"{MODEL}json"  # describes the model: its input, outputs and files
CARD_VERSION = 2
READABLE_VERSIONS = (1, CARD_VERSION)
# tried in this order for text that Pillow's default font cannot draw
FONTS = (
    *("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc"),
    *("wqy-zenhei.ttc", "wqy-microhei.ttc", "Arial Unicode.ttf", "arial.ttf", "msyh.ttc", "msgothic.ttc"),
)
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "PPM", "TGA", "JPEG2000", "ICO", "PCX")
RUNTIMES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}  # the package that runs each format
RESIZES = ("centre_crop", "pad_or_stretch")
MAX_IMAGE_SIZE = 16384
MAX_STEPS, MAX_FEATURES = 1_000_000, 16384
LAST = "last"  # the part of a longer series that is read
VOCABULARY_SIZE = 257  # token 0 is padding, and 1 to 256 are bytes
BATCH_SIZE = 32
UNREAD = "cannot be read as"
MIN_TEMPERATURE = 1e-6  # the smallest that logits are divided by
Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # inputs (B, …) to outputs (B, …) by name


# ---- images
@cache
def image_formats() -> list[str]:
    """Return the allowed formats that this Pillow reads; others, such as PostScript, start an external program."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def read_image(path: str | Path, mode: str) -> Image.Image:
    """Read an image file, upright, in mode "L" (grey) or "RGB" with 8 bits per channel.

    16-bit pixels are scaled to 8 bits, transparent areas become white, and EXIF orientation is applied.

    Raises:
        ValueError: the file is not an image, is damaged, or has pixels of unknown scale.
    """
    try:
        with Image.open(path, formats=image_formats()) as file:
            return in_mode(file, mode)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} {UNREAD} an image: its format is unknown, or it is damaged") from error
    except Exception as error:  # decoders raise anything on damaged files
        raise ValueError(f"{path} {UNREAD} an image: {str(error) or type(error).__name__}") from error


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return an opened image upright and in a mode; see `read_image`.

    Raises:
        ValueError: its pixels are of unknown scale.
    """
    image = ImageOps.exif_transpose(image)
    image.load()
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown scale; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.float64)
        if image.mode == "I" and (levels.min() < 0 or levels.max() > 65535):
            raise ValueError("its pixels are integers of more than 16 bits; save it with 8 or 16 bits")
        scale = 1 if image.mode == "I" and levels.max() <= 255 else 257
        image = Image.fromarray((levels.clip(0, 65535) / scale).round().astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert(mode)


def fit_image(
    image: Image.Image,
    resize: str,
    image_size: int,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    fill: int = 0,
) -> Image.Image:
    """Resize an image to a square of `image_size` pixels, as the training data were.

    Args:
        image: of any size.
        resize: "centre_crop": scale the shorter side to 8/7 of `image_size` and crop the centre;
            "pad_or_stretch": pad a smaller image with `fill`, stretch a larger one to the square.
        image_size: height and width.
        resample: how to interpolate; nearest for masks.
        fill: value of the padding: black, or a class of a mask.
    """
    width, height = image.size
    if resize == "centre_crop":
        short = image_size * 8 // 7
        scaled = {side: max(int(short * side / min(width, height)), short) for side in (width, height)}
        image = image.resize((scaled[width], scaled[height]), resample)
        left, top = round((image.width - image_size) / 2.0), round((image.height - image_size) / 2.0)
        return image.crop((left, top, left + image_size, top + image_size))
    if max(width, height) > image_size:
        return image.resize((image_size, image_size), resample)
    canvas = Image.new(image.mode, (image_size, image_size), fill if image.mode == "L" else (fill,) * 3)
    canvas.paste(image, ((image_size - width) // 2, (image_size - height) // 2))
    return canvas


def source_box(size: tuple[int, int], resize: str, image_size: int) -> tuple[int, int, int, int]:
    """Return the part of an image, in its own pixels, that `fit_image` maps to the square; padding lies outside of it.

    Args:
        size: width and height of the image.
        resize: see `fit_image`.
        image_size: see `fit_image`.
    """
    width, height = size
    if resize == "pad_or_stretch" and max(width, height) > image_size:
        return 0, 0, width, height
    side = image_size if resize == "pad_or_stretch" else round(min(width, height) * 7 / 8)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def to_input(image: Image.Image, card: Mapping[str, Any]) -> np.ndarray:
    """Turn an image of the card's mode into an input of the net: float32 (C, H, W), resized and normalised."""
    fitted = fit_image(image, card["resize"], card["image_size"])
    pixels = np.asarray(fitted, dtype=np.float32).reshape(card["image_size"], card["image_size"], -1) / 255  # (H, W, C)
    normalised = (pixels - np.float32(card["mean"])) / np.float32(card["std"])
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


# ---- series and text
def read_series(path: str | Path, card: Mapping[str, Any]) -> np.ndarray:
    """Read a series from a .npy file or a .csv file, which may begin with a row of names.

    If the card names `columns`, those are read from a .csv file. Values of the column `time` must increase. With `crop`
    "last", the last `length` steps of a longer series are read.

    Returns:
        An input of the net: float32 (T, F), normalised.

    Raises:
        ValueError: the file cannot be read, has another shape than the model takes, or holds anything but numbers.
    """
    readers = {".npy": read_npy, ".csv": read_csv}
    reader = readers.get(Path(path).suffix.lower())
    try:
        if reader is None:
            raise ValueError(f"its name must end in {' or '.join(readers)}")
        return fit_series(*reader(path, card.get("columns") or [], card.get("time")), card)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} {UNREAD} a series: {error}") from error


def fit_series(values: np.ndarray, numbers: Sequence[int], names: list[str], card: Mapping[str, Any]) -> np.ndarray:
    """Turn a series (T, F), or (T,) of one feature, into an input of the net: float32 (length, F), normalised.

    Args:
        values: the values of the series.
        numbers: the row numbers, for messages.
        names: the column names, for messages; empty if there are none.
        card: see `read_series`.

    Raises:
        ValueError: the series has another shape than the model takes, or a value is not finite.
    """
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != card["features"]:
        actual = f"{values.shape[1]} columns" if values.ndim == 2 else f"the shape {values.shape}"
        raise ValueError(f"it has {actual}, but the model takes features={card['features']}")
    if card.get("crop") == LAST:
        values, numbers = values[-card["length"] :], numbers[-card["length"] :]
    if len(values) != card["length"]:
        raise ValueError(f"it has {len(values)} steps, but the model takes length={card['length']}")
    for row, column in np.argwhere(~np.isfinite(values))[:1]:
        name = names[column] if names else str(column + 1)
        raise ValueError(f"row {numbers[row]}, column {name} is {values[row, column]}")
    return (values.astype(np.float32) - np.float32(card["mean"])) / np.float32(card["std"])


def read_npy(
    path: str | Path, columns: Sequence[str], time: str | None = None
) -> tuple[np.ndarray, Sequence[int], list[str]]:
    """Read an array of numbers; return it with its row numbers and no column names.

    Args:
        path: the file.
        columns: ignored, since an array has no column names.
        time: ignored.

    Raises:
        ValueError: it is not an array of real numbers.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError("it is damaged, or holds objects") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf" or not values.ndim:
        raise ValueError("it is not an array of real numbers")
    return values, range(1, len(values) + 1), []


def read_csv(
    path: str | Path, columns: Sequence[str], time: str | None = None
) -> tuple[np.ndarray, Sequence[int], list[str]]:
    """Read a table of numbers; return it with the row numbers in the file and the column names.

    Args:
        path: the file.
        columns: the columns to read; a table without names, or with as many columns, need not have these names.
        time: the column with the time of each row, if the table has it.

    Raises:
        ValueError: a cell is not a number, a column is missing, the rows differ in their number of columns, there are
            none, or their times do not increase.
    """
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        rows = [(reader.line_num, row) for row in reader if row]
    names = [] if not rows or all(map(parses, rows[0][1])) else rows.pop(0)[1]
    if not rows:
        raise ValueError("it has no numbers")
    width = len(names or rows[0][1])
    missing = [column for column in columns if column not in names]
    if missing and names and width != len(columns):
        raise ValueError(f"it has no column {missing[0]}")
    places = range(width) if missing or not columns else [names.index(column) for column in columns]
    for number, row in rows:
        if len(row) != width:
            raise ValueError(f"row {number} has {len(row)} columns, but the first has {width}")
        for place in places:
            if not parses(row[place]):
                raise ValueError(f"row {number}, column {names[place] if names else place + 1} is {row[place][:40]!r}")
    if time in names:
        check_order([(number, row[names.index(time)]) for number, row in rows], time)
    values = np.array([[row[place] for place in places] for _, row in rows], dtype=np.float64)
    return values, [number for number, _ in rows], [names[place] for place in places] if names else []


def check_order(times: Sequence[tuple[int, str]], column: str) -> None:
    """Check that times, each with its row number, increase: a forecast continues the last row.

    Raises:
        ValueError: a time is not after the one before, or is neither a number nor a date.
    """
    if (fault := first_disorder(times)) is None:
        return
    row, text, is_time = fault
    if not is_time:
        raise ValueError(f"row {row}, column {column} is {text[:40]!r}, which is neither a number nor a date")
    raise ValueError(f"row {row}, column {column}: {text[:40]} is not after the row before; sort the rows")


def first_disorder(times: Iterable[tuple[int, str]]) -> tuple[int, str, bool] | None:
    """Return the first time that is not after the one before: its row, its text, and whether it is a time at all."""
    before = -math.inf
    for row, text in times:
        try:
            now = seconds(text)
        except ValueError:
            return row, text, False
        if not now > before:
            return row, text, True
        before = now
    return None


def seconds(text: str) -> float:
    """Return a time as a number: unchanged, or the seconds of a date such as 2024-05-31, with or without a time of day.

    Raises:
        ValueError: it is neither a finite number nor a date.
    """
    if parses(text) and math.isfinite(float(text)):
        return float(text)
    date = datetime.fromisoformat(text.strip())
    return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()


def parses(cell: str) -> bool:
    """Return whether a cell of a table is a number, which may be nan."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8.

    Raises:
        ValueError: it is empty, or not in UTF-8.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        if not text.strip():
            raise ValueError("it is empty")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
        raise ValueError(f"{path} {UNREAD} text: it is not in UTF-8 ({byte})") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} {UNREAD} text: {error}") from error
    return text


def to_tokens(text: str) -> np.ndarray:
    """Turn a text into tokens (T,), int64: its bytes in UTF-8, plus 1."""
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) + 1


def read_tokens(path: str | Path, card: Mapping[str, Any]) -> np.ndarray:
    """Read a text file as an input of the net: tokens (length,), the first `length` ones, followed by padding.

    Raises:
        ValueError: see `read_text`; or the file has another suffix.
    """
    if Path(path).suffix.lower() != ".txt":
        raise ValueError(f"{path} {UNREAD} text: its name must end in .txt")
    return fit_tokens(to_tokens(read_text(path)), card)


def fit_tokens(tokens: np.ndarray, card: Mapping[str, Any]) -> np.ndarray:
    """Return the first `length` tokens, followed by padding: (length,)."""
    tokens = tokens[: card["length"]]
    return np.pad(tokens, (0, card["length"] - len(tokens)))


# ---- models
def read_card(folder: str | Path) -> dict[str, Any]:
    """Read and check the card of an exported model: how a file becomes its input, and what its outputs mean.

    Raises:
        FileNotFoundError: there is no exported model in the folder, or a file of it is missing.
        ValueError: the model has an unknown version or is damaged, or the folder has model files it does not list.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        nested = sorted(str(path.parent) for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/{CARD}"))
        hint = f"; those below it are {', '.join(nested[:12])}" if nested else ""
        raise FileNotFoundError(f"{folder} holds no exported model: there is no {CARD} in it{hint}.")
    content = read_regular(folder / CARD)
    try:
        card = json.loads(content.decode())
        version = card["card_version"]
        card = upgrade(card)
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{folder / CARD} is damaged: export the model again.") from error
    if version not in READABLE_VERSIONS:
        raise ValueError(f"{folder} is of version {version}, but this program reads {CARD_VERSION}: export it again.")
    try:
        check_card(card, {**fields_of(card), **EXPORT_FIELDS})
    except ValueError as error:
        raise ValueError(f"{folder / CARD} is damaged: {error} Export the model again.") from error
    check_files(folder, card["files"])
    return card


def is_number(value: Any) -> bool:
    """Return whether a value is a number that float32 can compute with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e30 < value < 1e30


def is_per_channel(values: Any, card: Mapping[str, Any]) -> bool:
    """Return whether a value is a list of numbers: one per channel, or one for all channels."""
    channels = (1,) if card["mode"] == "L" else (1, 3)
    return isinstance(values, list) and len(values) in channels and all(map(is_number, values))


def is_per_feature(values: Any, card: Mapping[str, Any]) -> bool:
    """Return whether a value is a list of numbers: one per feature."""
    return isinstance(values, list) and len(values) == card["features"] and all(map(is_number, values))


def are_checksums(values: Any) -> bool:
    """Return whether a value maps file names, which must not contain a folder, to text."""
    return isinstance(values, dict) and all(
        Path(name).name == name and isinstance(text, str) for name, text in values.items()
    )


def is_output(output: Any) -> bool:
    """Return whether a value describes an output of a net; a kind that this program does not know is refused later."""
    if not isinstance(output, dict) or not isinstance(output.get("kind"), str):
        return False
    units = [output[key] for key in ("mean", "std", "columns") if key in output]
    if units and not (len(units) == 3 and are_units(*units)):
        return False
    if not (is_number(output.get("temperature", 1)) and output.get("temperature", 1) > MIN_TEMPERATURE):
        return False
    if output["kind"] not in ("classes", "mask"):
        return True
    names, colors = output.get("names"), output.get("colors")
    if not are_names(names) or not names:
        return False
    return output["kind"] == "classes" or (
        isinstance(colors, list) and len(colors) == len(names) <= 255 and all(map(is_color, colors))
    )


def are_names(values: Any) -> bool:
    """Return whether a value is a list of texts."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def are_units(mean: Any, std: Any, columns: Any) -> bool:
    """Return whether values are the mean, standard deviation and name of each column."""
    numbers = isinstance(mean, list) and isinstance(std, list) and all(map(is_number, [*mean, *std]))
    return numbers and are_names(columns) and len(mean) == len(std) == len(columns) > 0


def is_color(color: Any) -> bool:
    """Return whether a value is a list of red, green and blue from 0 to 255."""
    return (
        isinstance(color, list) and len(color) == 3 and all(type(level) is int and 0 <= level <= 255 for level in color)
    )


# what each entry of a card must be, and its check, which may rely on earlier entries
Field = tuple[str, Callable[[Any, Mapping[str, Any]], bool]]
IMAGE_FIELDS: dict[str, Field] = {
    "mode": ("L or RGB", lambda value, card: value in ("L", "RGB")),
    "resize": (" or ".join(RESIZES), lambda value, card: value in RESIZES),
    "image_size": (
        f"an integer from 1 to {MAX_IMAGE_SIZE}",
        lambda value, card: type(value) is int and 1 <= value <= MAX_IMAGE_SIZE,
    ),
    "mean": ("a list of numbers, one per channel", is_per_channel),
    "std": (
        "a list of numbers above 0, one per channel",
        lambda value, card: is_per_channel(value, card) and min(value) > 1e-30,
    ),
}
LENGTH: Field = (
    f"an integer from 1 to {MAX_STEPS}",
    lambda value, card: type(value) is int and 1 <= value <= MAX_STEPS,
)
SERIES_FIELDS: dict[str, Field] = {
    "length": LENGTH,
    "features": (
        f"an integer from 1 to {MAX_FEATURES}",
        lambda value, card: type(value) is int and 1 <= value <= MAX_FEATURES,
    ),
    "mean": ("a list of numbers, one per feature", is_per_feature),
    "std": (
        "a list of numbers above 0, one per feature",
        lambda value, card: is_per_feature(value, card) and min(value) > 1e-30,
    ),
    "columns": (
        "a list of names, one per feature, or left out",
        lambda value, card: value is None or (are_names(value) and len(value) == card["features"]),
    ),
    "crop": (f"{LAST}, or left out", lambda value, card: value in (None, LAST)),
    "time": ("the name of a column, or left out", lambda value, card: value is None or isinstance(value, str)),
}
TOKEN_FIELDS: dict[str, Field] = {
    "length": LENGTH,
    "vocabulary_size": (
        f"{VOCABULARY_SIZE}, padding and all bytes",
        lambda value, card: type(value) is int and value == VOCABULARY_SIZE,
    ),
}
OUTPUT_FIELDS: dict[str, Field] = {
    "outputs": (
        "the kind of each output by its name, with the names of classes and the colours of masks",
        lambda value, card: isinstance(value, dict) and bool(value) and all(map(is_output, value.values())),
    ),
}
EXPORT_FIELDS: dict[str, Field] = {
    "format": (f"one of {', '.join(RUNTIMES)}", lambda value, card: value in tuple(RUNTIMES)),
    "precision": ("text", lambda value, card: isinstance(value, str)),
    "params": ("an integer", lambda value, card: type(value) is int),
    "score": (
        "the name of a metric, and test_<score> its value",
        lambda value, card: isinstance(value, str) and is_number(card.get(f"test_{value}", 0)),
    ),
    "files": ("checksums by file name", lambda value, card: are_checksums(value)),
    "file": ("one of files", lambda value, card: isinstance(value, str) and value in card["files"]),
}


class InputKind(NamedTuple):
    """A kind of input that a model reads."""

    noun: str
    suffixes: Callable[[], Iterable[str]]  # file name suffixes
    fields: Mapping[str, Field]  # entries of its card
    shape: Callable[[Mapping[str, Any]], tuple[int, ...]]  # the shape of an input of the net, from the card
    read: Callable[[str | Path, Mapping[str, Any]], np.ndarray]  # reads a file as an input of the net, by the card


INPUTS = {
    "image": InputKind(
        "an image",
        lambda: Image.registered_extensions(),
        IMAGE_FIELDS,
        lambda card: ((1 if card["mode"] == "L" else 3), card["image_size"], card["image_size"]),
        lambda path, card: to_input(read_image(path, card["mode"]), card),
    ),
    "series": InputKind(
        "a series",
        lambda: (".npy", ".csv"),
        SERIES_FIELDS,
        lambda card: (card["length"], card["features"]),
        read_series,
    ),
    "tokens": InputKind("text", lambda: (".txt",), TOKEN_FIELDS, lambda card: (card["length"],), read_tokens),
}
IMAGE = "image"  # the kind of cards without `input`


def input_kind(card: Mapping[str, Any]) -> InputKind:
    """Return the kind of a model's inputs."""
    return INPUTS[card.get("input", IMAGE)]


def fields_of(card: Mapping[str, Any]) -> dict[str, Field]:
    """Return the entries that describe a model's inputs and outputs, and what they must be.

    Raises:
        ValueError: the inputs are of an unknown kind.
    """
    if card.get("input", IMAGE) not in tuple(INPUTS):
        raise ValueError(f"input={str(card['input'])[:80]} must be one of {', '.join(INPUTS)}.")
    return {**input_kind(card).fields, **OUTPUT_FIELDS}


def check_card(card: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
    """Check the entries of a card.

    Raises:
        ValueError: names the first entry that is invalid.
    """
    for name, (expected, is_valid) in fields.items():
        if not is_valid(card.get(name), card):
            raise ValueError(f"{name}={str(card.get(name))[:80]} must be {expected}.")


def check_files(folder: Path, checksums: Mapping[str, str]) -> None:
    """Check the files of a model, and that a runtime cannot open anything else in the folder by mistake.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, is a link or a pipe, or is named like a model file but has no checksum.
    """
    for name, checksum in checksums.items():
        if not os.path.lexists(folder / name):
            raise FileNotFoundError(f"{folder / name} is missing: the exported model is incomplete.")
        if sha256(folder / name) != checksum:
            raise ValueError(f"{folder / name} is truncated or damaged: its checksum differs from the one in {CARD}.")
    for name in sorted(os.listdir(folder)):  # noqa: PTH208  # names alone
        if name.startswith(MODEL) and name != CARD and name not in checksums:
            raise ValueError(f"{folder / name} is not listed in {CARD}: delete it, or export the model again.")
    for parent, _, names in os.walk(folder):  # an ONNX model may refer to a file of any name, at any depth
        for name in names:
            path = Path(parent, name)
            if path.exists() and not path.is_file():  # a runtime would block on a pipe
                raise ValueError(f"{path} is neither a file nor a folder: delete it.")


def upgrade(card: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a card to the current version; in version 1 every output was logits, with its classes under `heads`."""
    if "heads" not in card:
        return dict(card)
    outputs = {name: {"kind": "classes", "names": names} for name, names in card["heads"].items()}
    rest = {key: value for key, value in card.items() if key != "heads"}
    return {**rest, "outputs": outputs, "score": "acc"}


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a regular file; raise ValueError for anything else."""
    return hashlib.sha256(read_regular(path)).hexdigest()


def read_regular(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        ValueError: it is a link, a pipe, a folder or a device, or cannot be read.
    """
    # if a link or a pipe replaces the file after the check, do not follow it or block; Windows has only the last flag
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError(f"{path} is not a regular file: an exported model has neither links nor pipes.")
        with os.fdopen(os.open(path, os.O_RDONLY | flags), "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


def input_shape(card: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of the net's input: (C, H, W) of an image, (T, F) of a series, (T,) of tokens."""
    return input_kind(card).shape(card)


def load(folder: str | Path, threads: int | None = None, compiled: bool = False, trusted: bool = False) -> "Predictor":
    """Load an exported model.

    Args:
        folder: an exported model, written by `src/export.py`.
        threads: the number of threads; None: the runtime's default. torch always uses the process's own.
        compiled: run a torch model through torch.compile: faster, after seconds or minutes of compiling.
        trusted: allow torch models, which may run code when they are loaded.

    Raises:
        FileNotFoundError: see `read_card`.
        ValueError: see `read_card`, `check_trusted` and `Predictor`; or the runtime cannot load the file.
        ModuleNotFoundError: the runtime is not installed.
    """
    card = read_card(folder)
    check_trusted(folder, card, trusted)
    package = RUNTIMES[card["format"]]
    without_telemetry()
    path = Path(folder) / card["file"]
    start = {"openvino": start_openvino, "onnx": start_onnx, "torch": start_torch}[card["format"]]
    try:
        run = start(importlib.import_module(package), path, card, threads, compiled)
    except ModuleNotFoundError as error:  # the runtime, or a package it needs for this model
        missing = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(
            f"{folder} is a model in the format {card['format']}, which needs a package that is not installed: "
            f"pip install {missing}, or all runtimes at once, in a checkout: pip install -e '.[deploy]'"
        ) from error
    except Exception as error:  # runtimes raise exceptions of any type
        raise ValueError(f"{path} cannot be loaded by {package}: {one_line(error)}") from error
    return Predictor(card, run)


def one_line(error: Exception) -> str:
    """Shorten an error's message to one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def check_trusted(folder: str | Path, card: Mapping[str, Any], trusted: bool) -> None:
    """Refuse a model that may run code when it is loaded, unless it is trusted.

    Raises:
        ValueError: it is a torch model and not trusted.
    """
    if RUNTIMES[card["format"]] == "torch" and not trusted:
        raise ValueError(
            f"{folder} is a torch model, and loading one may run code that it holds. If you trust its source, add "
            "trusted=true (predict.py: --trusted). OpenVINO and ONNX models hold no code."
        )


@cache
def openvino_core(ov: Any) -> Any:
    """Return the only `Core` of this process: with several of them, the next signal may end the process.

    On processors with AVX-512, each `Core` gives the thread that creates it its own signal stack. When it ends, it
    frees that stack and, if the stack is still in use, restores the previous one. So if two end in the order of their
    creation, the second restores the freed stack of the first. Seen with OpenVINO 2026.4.
    """
    return ov.Core()


def start_openvino(ov: Any, path: Path, card: Mapping[str, Any], threads: int | None, compiled: bool) -> Run:
    """Load an OpenVINO model on the CPU."""
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",  # all threads work on one batch
        "INFERENCE_PRECISION_HINT": "bf16" if card["precision"] == "bf16" else "f32",
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    model = openvino_core(ov).compile_model(path, "CPU", options)
    outputs = dict(zip(card["outputs"], model.outputs, strict=True))

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        results = model(images)
        return {name: results[output] for name, output in outputs.items()}

    return run


def start_onnx(ort: Any, path: Path, card: Mapping[str, Any], threads: int | None, compiled: bool) -> Run:
    """Load an ONNX model in ONNX Runtime on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (model_input,) = session.get_inputs()
    return lambda images: dict(zip(card["outputs"], session.run(None, {model_input.name: images}), strict=True))


def start_torch(torch: Any, path: Path, card: Mapping[str, Any], threads: int | None, compiled: bool) -> Run:
    """Load a torch.export program; an int8 one computes in float32 on rounded values unless it is compiled."""
    if card["precision"] == "int8":
        logging.getLogger("torch.utils").setLevel(logging.ERROR)  # hide warnings about torchao's own internals
        importlib.import_module("torchao.quantization.pt2e")  # registers the operators
    importlib.import_module("torch._inductor.config")
    net = torch.export.load(path).module()
    freezes = compiled and card["precision"] == "int8"  # then weights are folded into int8 kernels
    if compiled:
        net = torch.compile(net)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad(), torch._inductor.config.patch(freezing=True) if freezes else nullcontext():
            outputs = net(torch.from_numpy(images))
        named = outputs if isinstance(outputs, dict) else {next(iter(card["outputs"])): outputs}
        return {name: values.float().numpy() for name, values in named.items()}

    return run


def without_telemetry() -> None:
    """Disable the runtimes' telemetry, which must be done before they are imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO and NNCF find no reporter
    for name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):  # ONNX Runtime's current and former name
        os.environ.setdefault(name, "1")


class Predictor:
    """A loaded model with its card.

    Args:
        card: the kind of `input` (see `INPUTS`; an image by default) and what that kind needs, such as `image_size`,
            `mean` and `std`; and `outputs`: by name, the `kind` of each output (see `KINDS`) and what that kind needs,
            such as the `names` of classes.
        run: maps inputs (B, …) to outputs (B, …) by name.

    Raises:
        ValueError: an output is of a kind that this program does not know.
    """

    def __init__(self, card: Mapping[str, Any], run: Run) -> None:
        self.card, self.run = upgrade(card), run
        for name, output in self.card["outputs"].items():
            if output["kind"] not in KINDS:
                raise ValueError(
                    f"The model's output {name} is of the kind {output['kind']}, which this program cannot decode: it "
                    f"knows {', '.join(KINDS)}."
                )

    def predict(
        self,
        paths: Sequence[str | Path],
        top: int = 1,
        images: str | Path | None = None,
        vectors: str | Path | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield a row per file: `file`, and under the name of each output its prediction.

        For classes that is the likeliest, with `<name>_probability`; the next ones are `<name>_2`,
        `<name>_2_probability` and so on. For an image it is the path of a PNG file in the folder `images`, left out if
        no folder is given. For a vector it is the list of its numbers; with several columns there is one list for each,
        as `<name>_<column>`. A row has `error` instead if the file cannot be read or an output is not finite.

        Args:
            paths: the files.
            top: the number of classes.
            images: the folder for predicted images.
            vectors: a .npz file, written after the last row, with `file` (N,), the files without an error, and the
                vectors (N, D) of each output in full precision.

        Raises:
            ValueError: `top` is less than 1, `vectors` is given for a model without vectors, or the model does not
                match its card.
        """
        if top < 1:
            raise ValueError(f"top={top} must be at least 1.")
        outputs, folder = self.card["outputs"], Path(images) if images else None
        arrays: dict[str, list[np.ndarray]] = {name: [] for name in outputs if outputs[name]["kind"] == "vector"}
        if vectors and not arrays:
            raise ValueError(f"vectors={vectors} would be empty: no output of the model is a vector.")
        files: list[str] = []
        for start in range(0, len(paths), BATCH_SIZE):
            rows: list[dict[str, Any]] = []
            inputs = []
            for path in paths[start : start + BATCH_SIZE]:
                rows.append({"file": str(path)})
                try:
                    inputs.append(input_kind(self.card).read(path, self.card))
                except ValueError as error:
                    rows[-1]["error"] = str(error)
            results = self.results(np.stack(inputs)) if inputs else {}
            results = {name: in_units(values, outputs[name]) for name, values in results.items()}
            for index, row in enumerate([row for row in rows if "error" not in row]):
                request = Request(Path(row["file"]), top, folder, self.card)
                if bad := [name for name, values in results.items() if not np.isfinite(values[index]).all()]:
                    row["error"] = f"{row['file']} has no prediction: the model's output {bad[0]} is not finite."
                    continue
                for name, values in results.items():
                    row |= KINDS[outputs[name]["kind"]](name, values[index], outputs[name], request)
                if vectors:
                    files.append(str(request.file))
                    for name, collected in arrays.items():
                        collected.append(results[name][index].copy())  # a view would keep the whole batch
            yield from rows
        if vectors and files:
            write_arrays({"file": np.array(files), **{name: np.stack(rows) for name, rows in arrays.items()}}, vectors)

    def results(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs (B, …) by name for inputs (B, …).

        Raises:
            ValueError: the model fails on such inputs, or has outputs that its card does not name.
        """
        try:
            results = self.run(inputs)
        except Exception as error:  # runtimes raise exceptions of any type
            raise ValueError(f"The model fails on inputs of shape {inputs.shape[1:]}: {one_line(error)}") from error
        if results.keys() - self.card["outputs"].keys():
            raise ValueError(f"The model's outputs are {', '.join(results)}: its card names others.")
        return results


# ---- outputs
class Request(NamedTuple):
    """How to decode the outputs for one file."""

    file: Path
    top: int  # the number of classes
    images: Path | None  # the folder for predicted images
    card: Mapping[str, Any]  # of the model


def class_probabilities(logits: np.ndarray, output: Mapping[str, Any]) -> np.ndarray:
    """Return the probabilities of logits (…, classes), calibrated if the output has a `temperature`."""
    scaled = logits.astype(np.float64) / output.get("temperature", 1.0)
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def decode_classes(name: str, logits: np.ndarray, output: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Return the likeliest classes of logits (classes,), with their probabilities, calibrated by a `temperature`.

    Raises:
        ValueError: there are more logits than names, or logits for each pixel.
    """
    if logits.ndim != 1 or len(logits) > len(output["names"]):
        known = f"its card has the names of {len(output['names'])} classes"
        raise ValueError(f"The model's output {name} of an image has the shape {logits.shape}, but {known}.")
    probabilities = class_probabilities(logits, output)
    result: dict[str, Any] = {}
    for rank, index in enumerate(np.argsort(-probabilities, kind="stable")[: request.top], start=1):
        key = name if rank == 1 else f"{name}_{rank}"
        result |= {key: output["names"][index], f"{key}_probability": round(float(probabilities[index]), 6)}
    return result


def decode_image(name: str, pixels: np.ndarray, output: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Write an image (C, H, W) with values in [0, 1] to a new PNG file and return its path.

    Raises:
        ValueError: the image does not have 1 or 3 channels.
    """
    if request.images is None:
        return {}
    if pixels.ndim != 3 or len(pixels) not in (1, 3):
        raise ValueError(f"The model's output {name} is not an image of 1 or 3 channels: its shape is {pixels.shape}.")
    levels = (pixels.astype(np.float64).clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)  # (H, W, C)
    image = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    with create_file(request.images, f"{request.file.stem}_{re.sub('[^a-zA-Z0-9_-]', '_', name)}", ".png") as file:
        image.save(file, format="PNG")
    return {name: file.name}


def decode_mask(name: str, logits: np.ndarray, output: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Write the mask of logits (classes, H, W) in the size of its photo, and the photo coloured by it.

    Both are PNG files, whose paths are returned. A pixel of the mask is the number of its class, an index into the
    palette, or 255 where the model does not see the photo. `<name>_classes` lists the classes by their share of the
    model's output.

    Raises:
        ValueError: the logits are not those of an image's pixels, or there are not as many as names.
    """
    names = output["names"]
    if logits.ndim != 3 or len(logits) != len(names):
        known = f"its card has the names of {len(names)} classes"
        raise ValueError(f"The model's output {name} of an image has the shape {logits.shape}, but {known}.")
    shares = np.bincount(logits.argmax(axis=0).ravel(), minlength=len(names)) / logits[0].size
    order = [label for label in np.argsort(-shares, kind="stable") if shares[label]]
    result: dict[str, Any] = {f"{name}_classes": ", ".join(f"{names[label]} {shares[label]:.1%}" for label in order)}
    if request.images is None:
        return result
    photo = read_image(request.file, "RGB")
    left, top, right, bottom = source_box(photo.size, request.card["resize"], request.card["image_size"])
    best = np.full((bottom - top, right - left), -np.inf, np.float32)
    classes = np.zeros(best.shape, np.uint8)
    for label, plane in enumerate(logits.astype(np.float32)):  # one after another, because photos are large
        resized = np.asarray(Image.fromarray(plane).resize(best.shape[::-1], Image.Resampling.BILINEAR))
        classes[resized > best] = label
        best = np.maximum(best, resized)
    mask = Image.new("P", photo.size, 255)
    mask.paste(Image.fromarray(classes), (left, top))
    mask.putpalette([level for color in output["colors"] for level in color] + [224] * 3 * (256 - len(names)))
    stem = f"{request.file.stem}_{re.sub('[^a-zA-Z0-9_-]', '_', name)}"
    for suffix, picture in {"": mask, PICTURES["mask"]: Image.blend(photo, mask.convert("RGB"), 0.5)}.items():
        with create_file(request.images, stem + suffix, ".png") as file:
            picture.save(file, format="PNG")
        result[name + suffix] = file.name
    return result


def decode_vector(name: str, numbers: np.ndarray, output: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Return the numbers of a vector (D,), or those of each column (D, columns), rounded to 6 significant digits."""
    columns = output.get("columns", [])
    several = dict(zip((f"{name}_{column}" for column in columns), numbers.T, strict=True)) if len(columns) > 1 else {}
    lists = several or {name: numbers.ravel()}
    return {key: [float(f"{number:.6g}") for number in values] for key, values in lists.items()}


def in_units(values: np.ndarray, output: Mapping[str, Any]) -> np.ndarray:
    """Undo the normalisation of an output (B, …, columns) whose card has the mean and std of its columns."""
    if "mean" not in output:
        return values
    return values * np.float32(output["std"]) + np.float32(output["mean"])


KINDS = {"classes": decode_classes, "image": decode_image, "mask": decode_mask, "vector": decode_vector}
# suffixes of an output's name in a row, by its kind
PICTURES = {"image": "", "mask": "_overlay"}  # of the picture that shows it
CAPTIONS = {"mask": "_classes"}  # of its description


def picture_names(outputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the keys under which a row has pictures of the outputs."""
    return [name + PICTURES[output["kind"]] for name, output in outputs.items() if output["kind"] in PICTURES]


# ---- files
def find_files(inputs: Sequence[str], kinds: Collection[InputKind] = tuple(INPUTS.values())) -> list[Path]:
    """Find the inputs of a model named by files, folders and patterns such as 'shots/*.png'.

    Folders are searched recursively for names with a suffix of one of the kinds.

    Raises:
        FileNotFoundError: one of the inputs matches no file.
    """
    suffixes = {suffix for kind in kinds for suffix in kind.suffixes()}
    nouns = " or ".join(kind.noun.removeprefix("an ").removeprefix("a ") for kind in kinds)
    found: list[Path] = []
    for name in inputs:
        files = [
            file
            for path in ([Path(name)] if Path(name).exists() else expand_pattern(name))
            for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
            if file.is_file() and (file == path or (file.suffix.lower() in suffixes and not file.name.startswith(".")))
        ]
        if not files:
            raise FileNotFoundError(
                f"input={name} matches no {nouns}: name a file, a folder of such files, or a pattern."
            )
        found += dict.fromkeys(files)  # a pattern may match a folder and its files
    return found


def expand_pattern(pattern: str) -> list[Path]:
    """Return the sorted paths that match a pattern as in `glob.glob`, except that `**` does not follow links.

    A link to a parent folder would otherwise be followed again and again. Names that begin with a dot match only a part
    that also does, and a final `**` matches folders only.
    """
    path = Path(pattern)
    parts = [part if part == "**" else re.sub(r"\*+", "*", part) for part in path.relative_to(path.anchor).parts]
    folders_only = parts[-1] == "**" or pattern.endswith(("/", os.sep))
    dotted = [part for part in path.parts if part.startswith(".")]
    found = [
        match
        for match in Path(path.anchor).glob("/".join(parts))
        if all(any(fnmatchcase(name, part) for part in dotted) for name in match.parts if name.startswith("."))
        and (match.is_dir() or not folders_only)
    ]
    return sorted(set(found), key=str)


def create_file(folder: Path, stem: str, suffix: str) -> IO[bytes]:
    """Create `<stem><suffix>` and open it for writing, or `<stem>_2<suffix>` and so on if it exists."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{stem}_{number}{suffix}" for number in itertools.count(2))
    for name in itertools.chain([f"{stem}{suffix}"], names):
        with suppress(FileExistsError):
            return (folder / name).open("xb")
    raise AssertionError("the names never end")


@contextmanager
def replacing(path: str | Path, mode: str = "xb", **options: Any) -> Iterator[IO[Any]]:
    """Open a temporary file for writing, and move it to `path` once it is complete."""
    temporary = Path(f"{path}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open(mode, **options) as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write predictions as JSON if the path ends in .json, as CSV otherwise.

    In CSV, text that a spreadsheet would take for a formula is prefixed with an apostrophe.
    """
    with replacing(path, "x", newline="", encoding="utf-8", errors="surrogateescape") as file:
        if str(path).endswith(".json"):
            json.dump(list(rows), file, indent=2)
        else:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows({key: without_formula(value) for key, value in row.items()} for row in rows)


def without_formula(value: Any) -> Any:
    """Escape text that a spreadsheet would evaluate."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def write_arrays(arrays: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Write arrays to a .npz file, as `np.savez` does, which reserves some names for its own parameters."""
    with replacing(path) as file, ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


# ---- the contact sheet
@cache
def fonts() -> list[Any]:
    """Load Pillow's default font, which covers little beyond ASCII, and the `FONTS` installed on this machine."""
    loaded: list[Any] = [ImageFont.load_default()]
    for name in FONTS:
        with suppress(OSError, ImportError):  # not installed, or a Pillow without FreeType
            loaded.append(ImageFont.truetype(name, 10))
    return loaded


def has_glyph(font: Any, character: str) -> bool:
    """Return whether a font draws a character differently from one that no font has."""

    def glyph(text: str) -> Any:
        try:
            mask = font.getmask(text)
        except UnicodeError:  # a bitmap font, or half a surrogate pair
            return None
        return mask.size, bytes(mask)

    return character.isspace() or glyph(character) not in (None, glyph("\U0010fffd"))


def drawable(text: str) -> tuple[Any, str]:
    """Choose a font with all characters of a text; else the default one, and transliterate what it lacks to ASCII."""
    complete = (font for font in fonts() if all(has_glyph(font, character) for character in text))
    font = next(complete, fonts()[0])
    return font, "".join(character if has_glyph(font, character) else in_ascii(character) for character in text)


def in_ascii(character: str) -> str:
    """Transliterate a character to ASCII: é to e, ß to ss, 日 to \\u65e5."""
    for plain in (unicodedata.normalize("NFKD", character), character.casefold()):
        if letters := plain.encode("ascii", "ignore").decode():
            return letters
    return character.encode("ascii", "backslashreplace").decode()


def draw_line(draw: ImageDraw.ImageDraw, place: tuple[int, int], width: int, text: str, end: str, fill: str) -> None:
    """Draw a line of text, truncated to fit into a width together with its end."""
    font, text = drawable(printable(text))  # a name may have several lines
    while text and draw.textlength(text + end, font) > width:
        text = text[:-1]
    draw.text(place, text + end, fill=fill, font=font)


def contact_sheet(
    rows: Sequence[Mapping[str, Any]], outputs: Mapping[str, Mapping[str, Any]], path: str | Path, side: int = 128
) -> None:
    """Draw all images on one PNG, each beside the images predicted for it.

    Below each are its name and its first prediction that is not an image.
    """
    shown = [row for row in rows if "error" not in row]
    pictures = picture_names(outputs)
    described = {name: output["kind"] for name, output in outputs.items() if output["kind"] != "image"}
    caption = next((name + CAPTIONS.get(kind, "") for name, kind in described.items()), None)
    columns = min(max(round(len(shown) ** 0.5), 1), 12)
    width, height = side * (1 + len(pictures)), side + 28
    sheet = Image.new("RGB", (columns * width, -(-len(shown) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, row in enumerate(shown):
        x, y = index % columns * width, index // columns * height
        for number, file in enumerate([row["file"], *(row[name] for name in pictures if name in row)]):
            image = read_image(file, "RGB")
            nearest = Image.Resampling.NEAREST if max(image.size) < side else Image.Resampling.BILINEAR
            image = ImageOps.contain(image, (side - 4, side - 4), nearest)
            sheet.paste(image, (x + number * side + (side - image.width) // 2, y + (side - image.height) // 2))
        draw_line(draw, (x + 3, y + side - 2), width - 6, Path(row["file"]).name, "", "grey")
        if caption is not None:
            probability = row.get(f"{caption}_probability")
            end = "" if probability is None else f" {probability:.0%}"
            draw_line(draw, (x + 3, y + side + 10), width - 6, shortened(row[caption]), end, "black")
    with replacing(path) as file:
        sheet.save(file, format="PNG")


# ---- the command line
def shortened(value: Any) -> str:
    """Format a value of a row; for a vector, only the first four numbers."""
    if not isinstance(value, list):
        return str(value)
    return f"[{', '.join(f'{number:.4g}' for number in value[:4])}{', …' if len(value) > 4 else ''}]"


def check_all_predicted(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError if some files could not be predicted; `report_rows` has named them."""
    failed = sum("error" in row for row in rows)
    if failed:
        raise ValueError(f"{failed} of {len(rows)} files could not be {failed_step(rows)}; all others are predicted.")


def failed_step(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what failed for the files without a prediction."""
    errors = [row["error"] for row in rows if "error" in row]
    nouns = [kind.noun for kind in INPUTS.values() if all(f"{UNREAD} {kind.noun}" in error for error in errors)]
    return f"read as {nouns[0]}" if nouns else "predicted"


def check_outputs(
    out: str | Path | None,
    sheet: str | Path | None,
    images: str | Path | None = None,
    vectors: str | Path | None = None,
) -> None:
    """Check the names of the files to write, and of the folder for predicted images.

    Raises:
        ValueError: a suffix is wrong, a file is a folder or a folder is a file, or the folder is not empty.
    """
    suffixes = {"out": (".csv", ".json"), "sheet": (".png",), "vectors": (".npz",)}
    for name, path in {"out": out, "sheet": sheet, "vectors": vectors}.items():
        if path and Path(path).suffix.lower() not in suffixes[name]:
            raise ValueError(f"{name}={path} must end in {' or '.join(suffixes[name])}.")
        if path and Path(path).is_dir():
            raise ValueError(f"{name}={path} is a folder: name a file.")
    if images and Path(images).exists() and not Path(images).is_dir():
        raise ValueError(f"images={images} is a file: name a folder.")
    if images and Path(images).is_dir() and any(Path(images).iterdir()):
        raise ValueError(f"images={images} already holds files: name a new or an empty folder.")


def check_drawable(card: Mapping[str, Any], sheet: str | Path | None) -> None:
    """Raise ValueError for a contact sheet of inputs that are not images."""
    if sheet and input_kind(card) is not INPUTS[IMAGE]:
        raise ValueError(f"sheet={sheet} can show images only, but this model reads {input_kind(card).noun}.")


def printable(text: str) -> str:
    """Replace line breaks, terminal escapes and other unprintable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def report_rows(
    rows: Sequence[Mapping[str, Any]], outputs: Mapping[str, Mapping[str, Any]], out: str | None, sheet: str | None
) -> None:
    """Print predictions and write them to files.

    Args:
        rows: see `Predictor.predict`.
        outputs: of the model's card.
        out: a .csv or .json file, or None.
        sheet: a .png file, or None; see `contact_sheet`.

    Raises:
        ValueError: no file could be predicted.
    """
    for row in rows:
        if "error" in row:
            sys.stderr.write(f"ERROR: {printable(row['error'])}\n")
        else:
            cells = [printable(str(row["file"]))]
            for key, value in row.items():
                if key == "file" or key.removesuffix("_probability") in row.keys() - {key}:
                    continue
                name = f"{key}=" if len(outputs) > 1 or (key not in outputs and isinstance(value, list)) else ""
                probability = f"  {row[f'{key}_probability']:.4f}" if f"{key}_probability" in row else ""
                cells.append(f"{name}{printable(shortened(value))}{probability}")
            sys.stdout.write("  ".join(cells) + "\n")
    if out:
        write_rows(rows, out)
    if all("error" in row for row in rows):
        raise ValueError(f"None of {len(rows)} file{'s' * (len(rows) > 1)} could be {failed_step(rows)}.")
    if not all(name in row for name in picture_names(outputs) for row in rows if "error" not in row):
        sys.stderr.write("The predicted images are not kept; images=<folder> (predict.py: --images) saves them.\n")
    if sheet:
        contact_sheet(rows, outputs, sheet)


def main() -> None:
    """Predict with the model in this file's folder."""
    parser = argparse.ArgumentParser(description="Predict with the exported model in this folder.")
    parser.add_argument("input", nargs="+", help="input files, folders of them, or patterns")
    parser.add_argument("--top", type=int, default=1, help="the number of classes for each file")
    parser.add_argument("--out", help="a .csv or .json file to write")
    parser.add_argument("--sheet", help="a .png file to draw all images and predictions on")
    parser.add_argument("--images", help="a new folder for images that the model predicts")
    parser.add_argument("--vectors", help="a .npz file for vectors that the model predicts, in full precision")
    parser.add_argument("--trusted", action="store_true", help="load a torch model, which may hold code")
    arguments = parser.parse_args()
    try:
        check_outputs(arguments.out, arguments.sheet, arguments.images, arguments.vectors)
        find_files(arguments.input)  # of any kind, to report a wrong name before the model is loaded
        predictor = load(Path(__file__).parent, trusted=arguments.trusted)
        check_drawable(predictor.card, arguments.sheet)
        paths = find_files(arguments.input, [input_kind(predictor.card)])
        rows = list(predictor.predict(paths, arguments.top, arguments.images, arguments.vectors))
        report_rows(rows, predictor.card["outputs"], arguments.out, arguments.sheet)
        check_all_predicted(rows)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    main()
