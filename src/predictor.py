"""Predict with an exported model, by numpy, Pillow and the runtime of its format: openvino, onnxruntime or torch.

Nothing else is imported, for this file lies as `predict.py` beside every exported model and runs there by itself:

    python predict.py photo.png 'more/*.jpg' --top 3 --out predictions.csv
"""

import argparse
import csv
import fnmatch
import glob
import hashlib
import importlib
import json
import logging
import os
import re
import secrets
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

try:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
except ModuleNotFoundError as error:
    needed = "pillow" if str(error.name).startswith("PIL") else error.name
    if __name__ != "__main__":
        raise
    sys.exit(f"ERROR: {needed} is not installed, which exported models of every format need: pip install {needed}")

MODEL = "model."  # what the names of a model's files begin with
CARD = f"{MODEL}json"  # what is known of a model, beside its files
CARD_VERSION = 2
VERSIONS = (1, CARD_VERSION)  # that are read
# for names that Pillow's own font cannot draw; the first that has all letters of a name
FONTS = (
    *("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc"),
    *("wqy-zenhei.ttc", "wqy-microhei.ttc", "Arial Unicode.ttf", "arial.ttf", "msyh.ttc", "msgothic.ttc"),
)
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "PPM", "TGA", "JPEG2000", "ICO", "PCX")
RUNTIMES = {"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}  # the package that runs a format
RESIZES = ("centre_crop", "pad_or_stretch")
MOST_PIXELS = 16384  # a side of what a net takes
BATCH_SIZE = 32
UNREAD = "cannot be read as an image"
Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # images (B, C, H, W) to outputs (B, …) by name


# ---- images
@cache
def image_formats() -> list[str]:
    """Those of the formats that Pillow can read here. It would start another program for some, such as PostScript."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def read_image(path: str | Path, mode: str) -> Image.Image:
    """Read an image file as an upright picture of mode "L" (grey) or "RGB" with 8 bits a channel.

    16 bits are scaled to 8, transparent parts are laid on white, and a camera's note of its rotation is followed.

    Raises:
        ValueError: the file is no image, damaged, or has pixels without a known scale.
    """
    try:
        with Image.open(path, formats=image_formats()) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
        if image.mode == "I" and (np.asarray(image).min() < 0 or np.asarray(image).max() > 65535):
            raise ValueError("its pixels are integers of more than 16 bits; save it with 8 or 16 bits")
        if image.mode.startswith("I;16") or (image.mode == "I" and np.asarray(image).max() > 255):
            image = Image.fromarray(
                (np.asarray(image).astype(np.float64).clip(0, 65535) / 257).round().astype(np.uint8)
            )
        elif image.mode == "I":
            image = Image.fromarray(np.asarray(image).astype(np.uint8))
        elif image.mode == "F":
            raise ValueError("its pixels are floating-point numbers of unknown scale; save it with 8 or 16 bits")
        elif image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        return image.convert(mode)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} {UNREAD}: it is of no known kind, or damaged") from error
    except Exception as error:  # whatever a damaged file may do to its readers
        raise ValueError(f"{path} {UNREAD}: {str(error) or type(error).__name__}") from error


def fit_image(image: Image.Image, resize: str, image_size: int) -> Image.Image:
    """Bring an image to a square of `image_size`, as the data of the training were.

    Args:
        image: of any size.
        resize: "centre_crop": the shorter side becomes 8/7 of the size, and the centre is cut out;
            "pad_or_stretch": a smaller image gets a black border, a larger one is stretched to the square.
        image_size: height and width, in pixels.
    """
    width, height = image.size
    if resize == "centre_crop":
        short = image_size * 8 // 7
        scaled = {side: max(int(short * side / min(width, height)), short) for side in (width, height)}
        image = image.resize((scaled[width], scaled[height]), Image.Resampling.BILINEAR)
        left, top = round((image.width - image_size) / 2.0), round((image.height - image_size) / 2.0)
        return image.crop((left, top, left + image_size, top + image_size))
    if max(width, height) > image_size:
        return image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    canvas = Image.new(image.mode, (image_size, image_size))
    canvas.paste(image, ((image_size - width) // 2, (image_size - height) // 2))
    return canvas


def to_input(image: Image.Image, card: Mapping[str, Any]) -> np.ndarray:
    """Turn an image of the card's mode into what the net takes: float32 (C, H, W), fitted and normalised."""
    fitted = fit_image(image, card["resize"], card["image_size"])
    pixels = np.asarray(fitted, dtype=np.float32).reshape(card["image_size"], card["image_size"], -1) / 255  # (H, W, C)
    normalised = (pixels - np.float32(card["mean"])) / np.float32(card["std"])
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


# ---- models
def read_card(folder: str | Path) -> dict[str, Any]:
    """What is known of an exported model: how an image becomes its input, and what its outputs mean.

    Raises:
        FileNotFoundError: the folder holds no exported model, or not all of it.
        ValueError: the model was exported by another version, or is damaged, or other files lie where its own should.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        inside = sorted(str(path.parent) for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/{CARD}"))
        hint = f"; those below it are {', '.join(inside[:12])}" if inside else ""
        raise FileNotFoundError(f"{folder} holds no exported model: there is no {CARD} in it{hint}.")
    content = read_regular(folder / CARD)
    try:
        card = json.loads(content.decode())
        version = card["card_version"]
        card = upgrade(card)
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{folder / CARD} is damaged: export the model anew.") from error
    if version not in VERSIONS:
        raise ValueError(f"{folder} is of version {version}, but this program reads {CARD_VERSION}: export it anew.")
    try:
        check_card(card, {**FIELDS, **EXPORT_FIELDS})
    except ValueError as error:
        raise ValueError(f"{folder / CARD} is damaged: {error} Export the model anew.") from error
    check_files(folder, card["files"])
    return card


def is_number(value: Any) -> bool:
    """Whether a value is a number of a size that can be computed with in float32."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e30 < value < 1e30


def is_per_channel(values: Any, card: Mapping[str, Any]) -> bool:
    """Whether a value is a list of numbers, one for each channel or for all."""
    channels = (1,) if card["mode"] == "L" else (1, 3)
    return isinstance(values, list) and len(values) in channels and all(map(is_number, values))


def is_file_names(values: Any) -> bool:
    """Whether a value is a mapping of texts by names of files, of which none leads out of a folder."""
    return isinstance(values, dict) and all(
        Path(name).name == name and isinstance(text, str) for name, text in values.items()
    )


def are_outputs(values: Any) -> bool:
    """Whether a value describes the outputs of a net, by their names."""
    return (
        isinstance(values, dict)
        and bool(values)
        and all(isinstance(output, dict) and isinstance(output.get("kind"), str) for output in values.values())
        and all(KINDS[output["kind"]].is_whole(output) for output in values.values() if output["kind"] in KINDS)
    )


# what each entry of a card must be, and whether a value of a card is; later ones may rely on those before
Field = tuple[str, Callable[[Any, Mapping[str, Any]], bool]]
FIELDS: dict[str, Field] = {
    "mode": ("L or RGB", lambda value, card: value in ("L", "RGB")),
    "resize": (" or ".join(RESIZES), lambda value, card: value in RESIZES),
    "image_size": (
        f"an integer from 1 to {MOST_PIXELS}",
        lambda value, card: type(value) is int and 1 <= value <= MOST_PIXELS,
    ),
    "mean": ("a list of a number for each channel", is_per_channel),
    "std": (
        "a list of a number above 0 for each channel",
        lambda value, card: is_per_channel(value, card) and min(value) > 1e-30,
    ),
    "outputs": ("the kind of each output, and the names of classes", lambda value, card: are_outputs(value)),
}
EXPORT_FIELDS: dict[str, Field] = {
    "format": (f"one of {', '.join(RUNTIMES)}", lambda value, card: value in tuple(RUNTIMES)),
    "precision": ("text", lambda value, card: isinstance(value, str)),
    "params": ("an integer", lambda value, card: type(value) is int),
    "score": (
        "the name of a metric, and test_<score> its value",
        lambda value, card: isinstance(value, str) and is_number(card.get(f"test_{value}", 0)),
    ),
    "files": ("checksums by names of files", lambda value, card: is_file_names(value)),
    "file": ("one of files", lambda value, card: isinstance(value, str) and value in card["files"]),
}


def check_card(card: Mapping[str, Any], fields: Mapping[str, Field]) -> None:
    """Check that a card has what a program relies on.

    Raises:
        ValueError: names the first entry that is something else.
    """
    for name, (wanted, is_so) in fields.items():
        if not is_so(card.get(name), card):
            raise ValueError(f"{name}={str(card.get(name))[:80]} must be {wanted}.")


def check_files(folder: Path, checksums: Mapping[str, str]) -> None:
    """Check the files of a model, and that beside them there is nothing that a runtime might open in their place.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, is a link or a pipe, or is one of a model and not on record.
    """
    for name, checksum in checksums.items():
        if not os.path.lexists(folder / name):
            raise FileNotFoundError(f"{folder / name} is missing: the exported model is not whole.")
        if sha256(folder / name) != checksum:
            raise ValueError(f"{folder / name} is truncated or damaged: its checksum differs from the one on record.")
    for name in sorted(os.listdir(folder)):  # noqa: PTH208  # names alone
        if name.startswith(MODEL) and name != CARD and name not in checksums:
            raise ValueError(f"{folder / name} is not on record in {CARD}: delete it, or export the model anew.")
    for place, _, names in os.walk(folder):  # an ONNX model may name files of any name, at any depth
        for name in names:
            path = Path(place, name)
            if path.exists() and not path.is_file():  # a runtime would wait for a pipe for ever
                raise ValueError(f"{path} is neither a file nor a folder: delete it.")


def upgrade(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card as this version has it; before, all outputs were logits, whose classes the card names under `heads`."""
    if "heads" not in card:
        return dict(card)
    outputs = {name: {"kind": "classes", "names": names} for name, names in card["heads"].items()}
    rest = {key: value for key, value in card.items() if key != "heads"}
    return {**rest, "outputs": outputs, "score": "acc"}


def sha256(path: Path) -> str:
    """The checksum of a regular file; raises ValueError for anything else."""
    return hashlib.sha256(read_regular(path)).hexdigest()


def read_regular(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        ValueError: it is a link, a pipe, a folder or a device, or cannot be read.
    """
    # should it become a link or a pipe meanwhile, that is not followed or waited for; Windows has the last flag alone
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError(f"{path} is not a regular file: an exported model has neither links nor pipes.")
        with os.fdopen(os.open(path, os.O_RDONLY | flags), "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


def input_shape(card: Mapping[str, Any]) -> tuple[int, int, int]:
    """(C, H, W) of what a net of this card takes."""
    return (1 if card["mode"] == "L" else 3), card["image_size"], card["image_size"]


def load(folder: str | Path, threads: int | None = None, compiled: bool = False, trusted: bool = False) -> "Predictor":
    """Load an exported model.

    Args:
        folder: what `src/export.py` wrote.
        threads: that compute together; None: as the runtime has it. torch has those of the process.
        compiled: run a torch model through torch.compile, which is fast, after its seconds or minutes of compiling.
        trusted: the folder's maker is trusted: to load a program of torch.export may run code that it holds.

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
    starter = {"openvino": start_openvino, "onnx": start_onnx, "torch": start_torch}[card["format"]]
    try:
        run = starter(importlib.import_module(package), path, card, threads, compiled)
    except ModuleNotFoundError as error:  # the runtime, or what it needs for this model
        missing = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(
            f"{folder} is a model in the format {card['format']}, which needs a package that is not installed: "
            f"pip install {missing}, or all runtimes at once, in a checkout: pip install -e '.[deploy]'"
        ) from error
    except Exception as error:  # runtimes raise what they like
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{path} cannot be loaded by {package}: {reason}") from error
    return Predictor(card, run)


def check_trusted(folder: str | Path, card: Mapping[str, Any], trusted: bool) -> None:
    """Check that no code of strangers runs when an exported model is loaded.

    Raises:
        ValueError: it is a torch model, and nobody has said that its maker is trusted.
    """
    if RUNTIMES[card["format"]] == "torch" and not trusted:
        raise ValueError(
            f"{folder} holds a program of torch.export, and to load one may run code that it holds. If you trust where "
            "it comes from, say so: trusted=true (predict.py: --trusted). OpenVINO and ONNX models need no trust."
        )


def start_openvino(ov: Any, path: Path, card: Mapping[str, Any], threads: int | None, compiled: bool) -> Run:
    """An OpenVINO model on the CPU."""
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",  # all threads work on one batch
        "INFERENCE_PRECISION_HINT": "bf16" if card["precision"] == "bf16" else "f32",
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    model = ov.Core().compile_model(path, "CPU", options)
    outputs = dict(zip(card["outputs"], model.outputs, strict=True))

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        results = model(images)
        return {name: results[output] for name, output in outputs.items()}

    return run


def start_onnx(ort: Any, path: Path, card: Mapping[str, Any], threads: int | None, compiled: bool) -> Run:
    """An ONNX model in ONNX Runtime on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    return lambda images: dict(zip(card["outputs"], session.run(None, {name: images}), strict=True))


def start_torch(torch: Any, path: Path, card: Mapping[str, Any], threads: int | None, compiled: bool) -> Run:
    """A program of torch.export; an int8 one computes in float32 on rounded values unless it is compiled."""
    if card["precision"] == "int8":
        logging.getLogger("torch.utils").setLevel(logging.ERROR)  # what torchao is warned of is not our user's matter
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
    """Keep runtimes from reporting to their makers, which they do unless told otherwise before they are imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # to OpenVINO and NNCF: not installed
    for name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):  # what ONNX Runtime calls it, and has called it
        os.environ.setdefault(name, "1")


class Predictor:
    """A model that is ready to run, with what is known of it.

    Args:
        card: `mode`, `resize`, `image_size`, `mean` and `std` of its input, and `outputs`: of each output, by its name,
            the `kind` (see `KINDS`) and what decoding it needs, such as the `names` of classes.
        run: maps images (B, C, H, W) to outputs (B, …) by name.

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
        self, paths: Sequence[str | Path], top: int = 1, images: str | Path | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield a row for each file: `file`, and what is predicted, under the name of each output.

        Of classes that is the likeliest, with `<name>_probability`; further ones follow as `<name>_2`,
        `<name>_2_probability` and so on. Of an image it is the path of a PNG file in the folder `images`, and is left
        out where no folder is named. Of a vector it is the list of its numbers. A file that cannot be read, or of which
        the model says what is no number, has `error`.

        Raises:
            ValueError: `top` is less than 1, or the model does not fit its card.
        """
        if top < 1:
            raise ValueError(f"top={top} must be at least 1.")
        folder = Path(images) if images else None
        for start in range(0, len(paths), BATCH_SIZE):
            rows: list[dict[str, Any]] = []
            inputs = []
            for path in paths[start : start + BATCH_SIZE]:
                rows.append({"file": str(path)})
                try:
                    inputs.append(to_input(read_image(path, self.card["mode"]), self.card))
                except ValueError as error:
                    rows[-1]["error"] = str(error)
            if inputs:
                results = self.results(np.stack(inputs))
                for place, row in enumerate(row for row in rows if "error" not in row):
                    request = Request(Path(row["file"]), top, folder)
                    unfit = [name for name, values in results.items() if not np.isfinite(values[place]).all()]
                    if unfit:
                        row["error"] = f"{row['file']} has no prediction: the model's output {unfit[0]} is not finite."
                        continue
                    for name, values in results.items():
                        output = self.card["outputs"][name]
                        row |= KINDS[output["kind"]].decode(name, values[place], output, request)
            yield from rows

    def results(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs (B, …) for images (B, C, H, W), by name.

        Raises:
            ValueError: the model cannot take such images, or its outputs are not those that the card names.
        """
        try:
            results = self.run(images)
        except Exception as error:  # runtimes raise what they like
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"The model fails on images of shape {images.shape[1:]}: {reason}") from error
        if results.keys() - self.card["outputs"].keys():
            raise ValueError(f"The model's outputs are {', '.join(results)}: its card names others.")
        return results


# ---- what outputs mean
@dataclass(frozen=True)
class Request:
    """What is wanted of the prediction for one file."""

    file: Path
    top: int  # so many classes
    images: Path | None  # the folder for predicted images


def decode_classes(name: str, logits: np.ndarray, output: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Return the likeliest classes of one image by its logits (classes,), with their probabilities.

    Raises:
        ValueError: there are more logits than names, or logits of something else than the image.
    """
    if logits.ndim != 1 or len(logits) > len(output["names"]):
        names = f"the names of {len(output['names'])} classes"
        raise ValueError(f"The model's output {name} of an image has the shape {logits.shape}, but its card {names}.")
    shares = np.exp(logits.astype(np.float64) - logits.max())
    shares /= shares.sum()
    result: dict[str, Any] = {}
    for rank, index in enumerate(np.argsort(-shares, kind="stable")[: request.top], start=1):
        key = name if rank == 1 else f"{name}_{rank}"
        result |= {key: output["names"][index], f"{key}_probability": round(float(shares[index]), 6)}
    return result


def decode_image(name: str, pixels: np.ndarray, output: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Write an image (C, H, W) with values in [0, 1] as PNG, where a folder is named, and return its path.

    Raises:
        ValueError: the image is neither grey (C = 1) nor coloured (C = 3).
    """
    if request.images is None:
        return {}
    if pixels.ndim != 3 or len(pixels) not in (1, 3):
        raise ValueError(f"The model's output {name} is no image of 1 or 3 channels: its shape is {pixels.shape}.")
    levels = (pixels.astype(np.float64).clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)  # (H, W, C)
    image = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    with create_file(request.images, f"{request.file.stem}_{re.sub('[^a-zA-Z0-9_-]', '_', name)}", ".png") as file:
        image.save(file, format="PNG")
    return {name: file.name}


def decode_vector(name: str, numbers: np.ndarray, output: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Return the numbers (D,) with 6 significant digits."""
    return {name: [float(f"{number:.6g}") for number in numbers.ravel()]}


class Kind(NamedTuple):
    """How outputs of a kind are turned into what a row says of them."""

    decode: Callable[[str, np.ndarray, Mapping[str, Any], Request], dict[str, Any]]
    is_whole: Callable[[Mapping[str, Any]], bool] = lambda output: True  # whether a card says what decoding needs
    is_picture: bool = False  # a row holds the path of an image


def has_names(output: Mapping[str, Any]) -> bool:
    """Whether a card names the classes of an output."""
    names = output.get("names")
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


KINDS = {
    "classes": Kind(decode_classes, has_names),
    "image": Kind(decode_image, is_picture=True),
    "vector": Kind(decode_vector),
}


def create_file(folder: Path, stem: str, suffix: str) -> Any:
    """Open a file that was not there before, for writing: `<stem>.png`, `<stem>_2.png` or so on."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        try:
            return (folder / (f"{stem}_{number}{suffix}" if number > 1 else f"{stem}{suffix}")).open("xb")
        except FileExistsError:
            number += 1


# ---- files in, files out
def find_images(inputs: Sequence[str]) -> list[Path]:
    """The files that are meant by names of files, of folders and by patterns such as 'shots/*.png'.

    Of a folder those are meant, at any depth, whose names end as those of images do.

    Raises:
        FileNotFoundError: one of them names no file.
    """
    suffixes = set(Image.registered_extensions())
    paths: list[Path] = []
    for name in inputs:
        found = [Path(name)] if Path(name).exists() else matches(name)
        files = [
            file
            for path in found
            for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
            if file.is_file() and (file == path or (file.suffix.lower() in suffixes and not file.name.startswith(".")))
        ]
        if not files:
            raise FileNotFoundError(
                f"input={name} names no image: it must be a file, a folder with images in it, or a pattern."
            )
        paths += dict.fromkeys(files)  # a pattern may name a folder and what is in it
    return paths


def matches(pattern: str) -> list[Path]:
    """What is there of a pattern's form, sorted; as `glob.glob` has it, but that `**` follows no links.

    Links to folders that they are in would be followed in every order that there is.
    """
    found = [Path()]
    for part in Path(pattern).parts:
        here = [place for place in found if place.is_dir()]
        if part == "**":
            found = [Path(folder) for place in here for folder in visible_folders(place)]
        elif glob.has_magic(part):
            found = [
                place / name
                for place in here
                for name in fnmatch.filter(listed(place), part)
                if part.startswith(".") or not name.startswith(".")
            ]
        else:
            found = [place / part for place in here if os.path.lexists(place / part)]
        found = list(dict.fromkeys(found))
    if pattern.endswith(("/", os.sep)):
        found = [place for place in found if place.is_dir()]
    return sorted(found, key=str)


def visible_folders(folder: Path) -> Iterator[str]:
    """A folder and those below it, without hidden ones and links."""
    for place, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]  # which `os.walk` goes on with
        yield place


def listed(folder: Path) -> list[str]:
    """The names of what is in a folder; none where it may not be read."""
    with suppress(OSError):
        return os.listdir(folder)  # noqa: PTH208  # names alone
    return []


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write predictions as JSON where the name ends in .json, as CSV elsewhere.

    In CSV an apostrophe comes before text that spreadsheets would take for a formula.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    temporary = Path(f"{path}.{secrets.token_hex(4)}.tmp")
    with temporary.open("x", newline="", encoding="utf-8", errors="surrogateescape") as file:
        if str(path).endswith(".json"):
            json.dump(list(rows), file, indent=2)
        else:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({key: without_formula(value) for key, value in row.items()} for row in rows)
    temporary.replace(path)


def without_formula(value: Any) -> Any:
    """A value of a row as a spreadsheet shows it, and computes nothing of it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


@cache
def fonts() -> list[Any]:
    """Pillow's own font, which has little beside ASCII, and those of `FONTS` that this machine has."""
    found: list[Any] = [ImageFont.load_default()]
    for name in FONTS:
        with suppress(OSError, ImportError):  # not here, or a Pillow without FreeType
            found.append(ImageFont.truetype(name, 10))
    return found


def shows(font: Any, character: str) -> bool:
    """Whether a font has a picture for a character, rather than the one that it draws for all that it lacks."""

    def drawn(text: str) -> Any:
        try:
            mask = font.getmask(text)
        except UnicodeError:  # a bitmap font, or half a surrogate pair
            return None
        return mask.size, bytes(mask)

    return character.isspace() or drawn(character) not in (None, drawn("\U0010fffd"))


def legible(text: str) -> tuple[Any, str]:
    """A font that has all letters of a text; where there is none, what it lacks becomes ASCII: "Strasse", "\\u65e5"."""
    for font in fonts():
        if all(shows(font, character) for character in text):
            return font, text
    font = fonts()[0]
    return font, "".join(character if shows(font, character) else in_ascii(character) for character in text)


def in_ascii(character: str) -> str:
    """What stands for a character: é by e, ß by ss, 日 by \\u65e5."""
    for plain in (unicodedata.normalize("NFKD", character), character.casefold()):
        if letters := plain.encode("ascii", "ignore").decode():
            return letters
    return character.encode("ascii", "backslashreplace").decode()


def write_line(draw: ImageDraw.ImageDraw, place: tuple[int, int], width: int, text: str, end: str, fill: str) -> None:
    """Draw a line of text, shortened so that it fits into a width together with its end."""
    font, text = legible(printable(text))  # a name may have several lines
    while text and draw.textlength(text + end, font) > width:
        text = text[:-1]
    draw.text(place, text + end, fill=fill, font=font)


def contact_sheet(
    rows: Sequence[Mapping[str, Any]], outputs: Mapping[str, Mapping[str, Any]], path: str | Path, side: int = 128
) -> None:
    """Draw the images that are predicted on one PNG, each beside the images predicted of it.

    Below stand its name, and what else is first predicted of it.
    """
    shown = [row for row in rows if "error" not in row]
    pictures = picture_names(outputs)
    said = next((name for name in outputs if name not in pictures), None)
    columns = min(max(round(len(shown) ** 0.5), 1), 12)
    width, height = side * (1 + len(pictures)), side + 28
    sheet = Image.new("RGB", (columns * width, -(-len(shown) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for place, row in enumerate(shown):
        x, y = place % columns * width, place // columns * height
        for number, file in enumerate([row["file"], *(row[name] for name in pictures if name in row)]):
            image = read_image(file, "RGB")
            nearest = Image.Resampling.NEAREST if max(image.size) < side else Image.Resampling.BILINEAR
            image = ImageOps.contain(image, (side - 4, side - 4), nearest)
            sheet.paste(image, (x + number * side + (side - image.width) // 2, y + (side - image.height) // 2))
        write_line(draw, (x + 3, y + side - 2), width - 6, Path(row["file"]).name, "", "grey")
        if said is not None:
            probability = row.get(f"{said}_probability")
            end = "" if probability is None else f" {probability:.0%}"
            write_line(draw, (x + 3, y + side + 10), width - 6, shortened(row[said]), end, "black")
    temporary = Path(f"{path}.{secrets.token_hex(4)}.tmp")
    with temporary.open("xb") as file:
        sheet.save(file, format="PNG")
    temporary.replace(path)


def picture_names(outputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The outputs that are images, by their names."""
    return [name for name, output in outputs.items() if KINDS[output["kind"]].is_picture]


def shortened(value: Any) -> str:
    """A value of a row as text; of many numbers the first four."""
    if not isinstance(value, list):
        return str(value)
    return f"[{', '.join(f'{number:.4g}' for number in value[:4])}{', …' if len(value) > 4 else ''}]"


def check_all_read(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that every file is predicted, when those that could be have been.

    Raises:
        ValueError: says how many could not, which `report_rows` has named.
    """
    failed = sum("error" in row for row in rows)
    if failed:
        raise ValueError(f"{failed} of {len(rows)} files could not be {failing(rows)}; all others are predicted.")


def failing(rows: Sequence[Mapping[str, Any]]) -> str:
    """What could not be done with the files that are not predicted."""
    unread = all(UNREAD in row["error"] for row in rows if "error" in row)
    return "read as an image" if unread else "predicted"


def check_outputs(out: str | Path | None, sheet: str | Path | None, images: str | Path | None = None) -> None:
    """Check the names of the files that are to be written, and of the folder for predicted images.

    Raises:
        ValueError: a suffix that says something else than what will be in the file, the name of a folder for a file or
            of a file for a folder, or a folder that holds something.
    """
    for name, path, suffixes in (("out", out, (".csv", ".json")), ("sheet", sheet, (".png",))):
        if path and Path(path).suffix.lower() not in suffixes:
            raise ValueError(f"{name}={path} must end in {' or '.join(suffixes)}.")
        if path and Path(path).is_dir():
            raise ValueError(f"{name}={path} is a folder: name a file.")
    if images and Path(images).exists() and not Path(images).is_dir():
        raise ValueError(f"images={images} is a file: name a folder.")
    if images and Path(images).is_dir() and any(Path(images).iterdir()):
        raise ValueError(f"images={images} holds files already: name a new or an empty folder.")


def printable(text: str) -> str:
    """A text in a line, without what a terminal would obey or could not show."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def report_rows(
    rows: Sequence[Mapping[str, Any]], outputs: Mapping[str, Mapping[str, Any]], out: str | None, sheet: str | None
) -> None:
    """Print predictions, and write them to the files that are named.

    Args:
        rows: see `Predictor.predict`.
        outputs: of the model's card.
        out: a .csv or .json file.
        sheet: a .png file; see `contact_sheet`.

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
                name = f"{key}=" if len(outputs) > 1 else ""
                probability = f"  {row[f'{key}_probability']:.4f}" if f"{key}_probability" in row else ""
                cells.append(f"{name}{printable(shortened(value))}{probability}")
            sys.stdout.write("  ".join(cells) + "\n")
    if out:
        write_rows(rows, out)
    if all("error" in row for row in rows):
        raise ValueError(f"None of {len(rows)} file{'s' * (len(rows) > 1)} could be {failing(rows)}.")
    if not all(name in row for name in picture_names(outputs) for row in rows if "error" not in row):
        sys.stderr.write(
            "The predicted images are not kept; images=<folder> (predict.py: --images) writes them there.\n"
        )
    if sheet:
        contact_sheet(rows, outputs, sheet)


def main() -> None:
    """Predict as the command line says, with the model in this file's own folder."""
    parser = argparse.ArgumentParser(description="Predict with the exported model in this folder.")
    parser.add_argument("input", nargs="+", help="images, folders of images, patterns")
    parser.add_argument("--top", type=int, default=1, help="how many classes to tell of each image")
    parser.add_argument("--out", help="a .csv or .json file to write")
    parser.add_argument("--sheet", help="a .png file to draw all images and predictions on")
    parser.add_argument("--images", help="a new folder for images that the model predicts")
    parser.add_argument("--trusted", action="store_true", help="load a torch model, which may hold code")
    arguments = parser.parse_args()
    try:
        check_outputs(arguments.out, arguments.sheet, arguments.images)
        paths = find_images(arguments.input)
        predictor = load(Path(__file__).parent, trusted=arguments.trusted)
        rows = list(predictor.predict(paths, arguments.top, arguments.images))
        report_rows(rows, predictor.card["outputs"], arguments.out, arguments.sheet)
        check_all_read(rows)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    main()
