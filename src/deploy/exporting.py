"""Export a net, run the exported model, and keep it only if it agrees with the net."""

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import src.predictor as predictor_module
from src.deploy.agreement import Agreement, agreement, check, metrics_of
from src.deploy.formats import INT8_PACKAGES, PACKAGES, load_format
from src.deploy.inference_net import inference_copy, torch_runner
from src.models.counting import count_parameters
from src.models.example_inputs import padded_to
from src.models.task import Task
from src.predictor import CARD, CARD_VERSION, MODEL, input_shape, load, read_card, sha256
from src.system.json_files import part, read_json
from src.system.links import symlink_error
from src.system.signals import listener

PROGRAM = "predict.py"  # copied next to models, to run them
Batches = Callable[[], Iterable[Any]]  # iterates over a split from its start: images (B, C, H, W), …, targets (B, …)


def export(
    task: Task,
    input_card: Mapping[str, Any],
    test_batches: Batches,
    folder: Path,
    format: str,
    precision: str,
    max_drop: float,
) -> Agreement:
    """Write a task's net in float32 or bfloat16, and check it on the test images.

    Args:
        task: the task with its trained net; neither is changed.
        input_card: the card of its data.
        test_batches: batches of the data.
        folder: created only on success; replaces an earlier export of that name.
        format: see `src.deploy.formats`.
        precision: "fp32" or "bf16".
        max_drop: how much worse a bfloat16 model's score may be than the net's; see `Agreement.drop`.

    Raises:
        ValueError: the exported model does not agree; or see `load_format`.
    """
    writer, net, card = load_format(format, precision), task.net, task.card(input_card)
    with staged(folder) as stage:
        shape = input_shape(card)
        writer.write(inference_copy(net, shape), shape, stage, precision)
        write_card(stage, card, net, format, precision, writer.FILE)
        reference = torch_runner(copy.deepcopy(net), list(card["outputs"]))
        result = agreement(load(stage, trusted=True).run, reference, test_batches(), task, card["outputs"])
        check(result, f"{format} {precision}", precision, max_drop)
        write_card(stage, card, net, format, precision, writer.FILE, metrics_of(result))
    return result


def write_card(
    folder: Path,
    card: Mapping[str, Any],
    net: nn.Module,
    format: str,
    precision: str,
    file: str,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write `model.json` for the model in a folder, and copy the program that runs it there."""
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
    """Check that replacing a folder would delete nothing but an earlier export.

    Raises:
        ValueError: the folder holds other files, is a file itself, or is a symbolic link.
    """
    if folder.is_symlink():
        raise symlink_error(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: name another folder for the exported model.")
    card, names = read_json(folder / CARD), {path.name for path in folder.iterdir()}
    models = [name for name in part(card, "files") if name.startswith(MODEL)]
    others = names - {CARD, PROGRAM, "__pycache__", *models} if "card_version" in card else names
    if others:
        raise ValueError(
            f"{folder} holds {', '.join(sorted(others)[:3])}, which no export has written, so it is not replaced: name "
            "another folder for the exported model."
        )


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` if the context succeeds, and is deleted if it fails.

    Raises:
        ValueError: see `check_replaceable`, which runs before the work and again after it, because files may have
            appeared meanwhile. The folder is then left as it is.
    """
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."  # with a random suffix, so that concurrent exports do not collide
    with listener.cleanup(), tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as own:
        stage = Path(own) / "new"
        stage.mkdir()
        yield stage
        check_replaceable(folder)
        if folder.exists():
            folder.replace(Path(own) / "previous")
        stage.replace(folder)


def size_mb(folder: Path) -> float:
    """Return the size of an exported model in MB (10**6 bytes)."""
    return read_card(folder)["size_bytes"] / 1e6


def split_loaders(datamodule: Any) -> dict[str, Batches]:
    """Return functions that create new loaders of "train", "val" and "test"."""
    return {split: getattr(datamodule, f"{split}_dataloader") for split in ("train", "val", "test")}


class Limited:
    """The first batches of a loader: a number for an int, a fraction for a float, like Lightning's limits."""

    def __init__(self, loader: Any, limit: float | int) -> None:
        count = limit if isinstance(limit, int) else int(limit * len(loader))
        self.loader, self.sampler, self.count = loader, loader.sampler, min(count, len(loader))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return islice(self.loader, self.count)


def take_inputs(batches: Iterable[Any], count: int, input_shape: Sequence[int]) -> Tensor:
    """Return the first inputs (count, *input_shape) of batches."""
    parts: list[Tensor] = []
    for inputs, *_ in batches:
        parts.append(padded_to(input_shape, inputs))
        if sum(map(len, parts)) >= count:
            break
    return torch.cat(parts)[:count]
