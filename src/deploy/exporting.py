"""Write a net in a format, run what was written, and keep it only if it agrees with the net."""

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import src.predictor as predictor_module
from src.deploy.formats import INT8_PACKAGES, PACKAGES, load_format
from src.deploy.inference_net import inference_copy, torch_runner
from src.models.counting import count_parameters
from src.predictor import CARD, CARD_VERSION, Run, input_shape, load, read_card, sha256
from src.system.json_files import part, read_json
from src.system.links import refusal
from src.system.signals import listener

MODEL = "model."  # what the files of an exported model begin with
PROGRAM = "predict.py"  # beside them, to run them by
TOLERANCE = 1e-4  # of float32 logits; relative to the largest where that is above 1
Batches = Callable[[], Iterable[Any]]  # gives the batches of a split anew: images (B, C, H, W), …, labels (B, …)


@dataclass(frozen=True)
class Agreement:
    """How the predictions of two models on the same labelled images compare; over all heads where there are several."""

    images: int
    accuracy: float  # in [0, 1], of the model that is examined
    reference_accuracy: float
    max_difference: float  # of logits
    largest_logit: float
    equal: float  # the share of equal predictions
    unequal_beyond_ties: int  # predictions that differ though the reference's first two differ by more than rounding

    @property
    def drop(self) -> float:
        """By how many points the examined model's accuracy is below the reference's."""
        return 100 * (self.reference_accuracy - self.accuracy)


def agreement(examined: Run, reference: Run, batches: Iterable[Any], heads: Sequence[str]) -> Agreement:
    """Compare two models on batches that are labelled for each head, in the order given.

    Raises:
        ValueError: there are no images.
    """
    images = right = reference_right = equal = predictions = beyond = 0
    difference = largest = 0.0
    for inputs, *_, labels in batches:
        ours, theirs = examined(inputs.numpy()), reference(inputs.numpy())
        images += len(inputs)
        columns = labels.view(len(labels), -1).numpy().T  # (heads, B)
        for head, truth in zip(heads, columns, strict=True):
            a, b = ours[head], theirs[head]  # (B, classes)
            difference = max(difference, float(np.abs(a - b).max()))
            largest = max(largest, float(np.abs(b).max()))
            same = a.argmax(axis=1) == b.argmax(axis=1)
            best, second = -np.partition(-b, 1, axis=1)[:, :2].T if b.shape[1] > 1 else (b[:, 0], b[:, 0] - np.inf)
            rounding = 2 * TOLERANCE * np.abs(b).max(axis=1).clip(min=1)
            beyond += int((~same & (best - second > rounding)).sum())
            equal += int(same.sum())
            right += int((a.argmax(axis=1) == truth).sum())
            reference_right += int((b.argmax(axis=1) == truth).sum())
            predictions += len(truth)
    if not predictions:
        raise ValueError("There are no images to compare the exported model with the net on.")
    return Agreement(
        images, right / predictions, reference_right / predictions, difference, largest, equal / predictions, beyond
    )


def export(
    net: nn.Module,
    card: Mapping[str, Any],
    test_batches: Batches,
    folder: Path,
    format: str,
    precision: str,
    max_drop: float,
) -> Agreement:
    """Write a net in float32 or bfloat16, and check it on the test images.

    Args:
        net: the trained net; it is not changed.
        card: the input card of its data.
        test_batches: of the data.
        folder: appears when all is well, in the place of one of that name.
        format: see `src.deploy.formats`.
        precision: "fp32" or "bf16".
        max_drop: by how many points a bfloat16 model's accuracy may be below the net's.

    Raises:
        ValueError: the exported model does not agree; or see `load_format`.
    """
    writer = load_format(format, precision)
    with staged(folder) as stage:
        shape = input_shape(card)
        writer.write(inference_copy(net, shape), shape, stage, precision)
        write_card(stage, card, net, format, precision, writer.FILE)
        heads = list(card["heads"])
        examined = load(stage, trusted=True).run
        found = agreement(examined, torch_runner(copy.deepcopy(net), heads), test_batches(), heads)
        check(found, f"{format} {precision}", precision, max_drop)
        write_card(stage, card, net, format, precision, writer.FILE, figures(found))
    return found


def check(found: Agreement, name: str, precision: str, max_drop: float) -> None:
    """Check that an exported model agrees with its net.

    Raises:
        ValueError: says by how much it does not.
    """
    tolerance = TOLERANCE * max(1.0, found.largest_logit)
    if precision == "fp32" and (found.max_difference > tolerance or found.unequal_beyond_ties):
        raise ValueError(
            f"The exported model ({name}) disagrees with the net: logits differ by up to {found.max_difference:.2g} "
            f"(allowed: {tolerance:.2g}), {found.unequal_beyond_ties} of {found.images} predictions differ beyond ties."
        )
    if precision != "fp32" and not found.drop <= max_drop:
        raise ValueError(
            f"The exported model ({name}) loses {found.drop:.2f} points of accuracy on {found.images} test images, "
            f"more than max_drop={max_drop:g}: {found.reference_accuracy:.4f} became {found.accuracy:.4f}."
        )


def figures(found: Agreement) -> dict[str, float]:
    """What a card says of the comparison."""
    return {
        "test_acc": found.accuracy,
        "test_acc_net": found.reference_accuracy,
        "test_images": found.images,
        "max_difference": found.max_difference,
        "equal_predictions": found.equal,
    }


def write_card(
    folder: Path,
    card: Mapping[str, Any],
    net: nn.Module,
    format: str,
    precision: str,
    file: str,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write `model.json` for the model in a folder, and put the program that runs it beside it."""
    packages = ("torch", *PACKAGES[format], *(INT8_PACKAGES[format] if precision == "int8" else ()))
    models = sorted(path for path in folder.iterdir() if path.name.startswith(MODEL) and path.name != CARD)
    content = {
        **card,
        "card_version": CARD_VERSION,
        "format": format,
        "precision": precision,
        "file": file,
        "files": {path.name: sha256(path) for path in models},
        "size_bytes": sum(path.stat().st_size for path in models),
        "net": type(net).__name__,
        "params": count_parameters(net),
        "packages": {name: version(name) for name in dict.fromkeys(packages)},
        **(more or {}),
    }
    (folder / CARD).write_text(json.dumps(content, indent=2) + "\n")
    shutil.copyfile(str(predictor_module.__file__), folder / PROGRAM)


def check_replaceable(folder: Path) -> None:
    """Check that nothing but a former export would be lost if a model took the place of a folder.

    Raises:
        ValueError: the folder holds other files, is a file itself, or is a symbolic link.
    """
    if folder.is_symlink():
        raise refusal(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: name another folder for the exported model.")
    card, names = read_json(folder / CARD), {path.name for path in folder.iterdir()}
    models = [name for name in part(card, "files") if name.startswith(MODEL)]
    others = names - {CARD, PROGRAM, "__pycache__", *models} if "card_version" in card else names
    if others:
        raise ValueError(
            f"{folder} holds {', '.join(sorted(others)[:3])}, which no export has written, and is not replaced: name "
            "another folder for the exported model."
        )


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name when the context ends well, and is gone when it does not.

    Raises:
        ValueError: see `check_replaceable`.
    """
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."  # two at once do not meet
    with listener.tidying(), tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as own:
        stage = Path(own) / "new"
        stage.mkdir()
        yield stage
        if folder.exists():
            folder.replace(Path(own) / "former")
        stage.replace(folder)


def size_mb(folder: Path) -> float:
    """The size of an exported model, in 10**6 bytes."""
    return read_card(folder)["size_bytes"] / 1e6


def split_loaders(datamodule: Any) -> dict[str, Batches]:
    """What gives the batches of "train", "val" and "test" anew at every call."""
    return {split: getattr(datamodule, f"{split}_dataloader") for split in ("train", "val", "test")}


class Limited:
    """The first batches of a loader: so many for an int, such a share for a float; as Lightning's limits say."""

    def __init__(self, loader: Any, limit: float | int) -> None:
        count = limit if isinstance(limit, int) else int(limit * len(loader))
        self.loader, self.sampler, self.count = loader, loader.sampler, min(count, len(loader))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return islice(self.loader, self.count)


def take_images(batches: Iterable[Any], count: int) -> Tensor:
    """The first images (count, C, H, W) of batches."""
    parts: list[Tensor] = []
    for inputs, *_ in batches:
        parts.append(inputs)
        if sum(map(len, parts)) >= count:
            break
    return torch.cat(parts)[:count]
