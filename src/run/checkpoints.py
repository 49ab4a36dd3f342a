"""Read checkpoints without running code from them, and check that they fit a model."""

import logging
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.system.safe_files import printable
from src.system.wording import counted, first_line

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # importing torch takes seconds, and is not needed to report a missing file
    from torch import nn

# keys that this project adds to checkpoints
CONFIG_KEY = "config"  # the configuration of the run
INPUT_KEY = "input_card"  # the description of inputs and outputs
RESUME_KEY = "exact_resume"  # state that Lightning leaves out


def recorded_best(ckpt_path: Path) -> Path:
    """Return the best checkpoint of a folder, as ModelCheckpoint recorded it in another checkpoint there.

    Raises:
        FileNotFoundError: the best checkpoint was deleted.
        ValueError: the file is damaged, or has no such record.
    """
    states = read_checkpoint(ckpt_path).get("callbacks")
    monitored = [
        state["best_model_path"]
        for state in (states.values() if isinstance(states, dict) else ())
        if isinstance(state, dict) and state.get("monitor") and isinstance(state.get("best_model_path"), str)
    ]
    if not monitored or not monitored[0]:
        raise ValueError(f"{ckpt_path} does not say which checkpoint is the best: name one with ckpt_path=….ckpt")
    best = ckpt_path.with_name(Path(monitored[0]).name)  # the folder may have been moved or copied since
    if not best.is_file():
        raise FileNotFoundError(f"{best}, the best checkpoint of its run, is gone: name another with ckpt_path=….ckpt")
    return best


def check_training_left(ckpt_path: Path, max_epochs: int | None, max_steps: int) -> None:
    """Check that a run continued from the checkpoint of another has something left to train.

    Args:
        ckpt_path: the checkpoint.
        max_epochs: the trainer's limit; -1 or None: no limit.
        max_steps: the trainer's limit; -1: no limit.

    Raises:
        ValueError: training is complete, or the file holds only weights.
    """
    checkpoint = read_checkpoint(ckpt_path)
    if "loops" not in checkpoint:  # written by Trainer.save_checkpoint(weights_only=True)
        raise ValueError(
            f"ckpt_path={ckpt_path} holds no training state, only weights: start a new run with init_from={ckpt_path}."
        )
    progress, why, advice = progress_of(checkpoint, max_epochs, max_steps)
    if why:
        raise ValueError(
            f"ckpt_path={ckpt_path} has been trained for {progress}, and nothing is left to train ({why}): "
            f"{advice}start a new run from its weights with init_from={ckpt_path}."
        )


def log_if_finished(ckpt_path: Path, max_epochs: int | None, max_steps: int) -> None:
    """Log that a resumed run is already finished, if it is; see `check_training_left`."""
    progress, why, _ = progress_of(read_checkpoint(ckpt_path), max_epochs, max_steps)
    if why:
        log.info("This run has finished already, after %s (%s): nothing is left to train.", progress, why)


def progress_of(checkpoint: dict[str, Any], max_epochs: int | None, max_steps: int) -> tuple[str, str, str]:
    """Return a checkpoint's progress, why training is complete and the limits to raise; the last two may be empty."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    steps = checkpoint["global_step"]
    limits = {"trainer.max_epochs": (max_epochs, epochs), "trainer.max_steps": (max_steps, steps)}
    reached = {key: limit for key, (limit, count) in limits.items() if limit is not None and 0 <= limit <= count}
    why = ", ".join(f"{key}={limit}" for key, limit in reached.items())
    if not reached and checkpoint.get(RESUME_KEY, {}).get("should_stop"):
        why = "early stopping or a time budget ended it"
    progress = f"{counted(epochs, 'epoch')} and {counted(steps, 'step')}"
    return progress, why, f"raise {' and '.join(reached)}, or " if reached else ""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this project without running code from it.

    The last one read is cached, memory-mapped, so that a resumed run reads its checkpoint once; do not modify it.

    Raises:
        ValueError: the file is truncated, damaged or not a checkpoint.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return read_cached(path, status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def read_cached(path: Path, *version: int) -> dict[str, Any]:
    """Read a checkpoint; the cache key holds the inode, time and size of the file."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:  # a checkpoint is a zip archive with a checksum per tensor
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:  # torch compresses nothing
                raise zipfile.BadZipFile("its contents are larger than the file")
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"the checksum of {damaged} differs")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file may raise errors of any kind
        raise unreadable(path, error) from error
    if not isinstance(checkpoint, dict) or not isinstance(weights := checkpoint.get("state_dict"), dict):
        raise ValueError(f"{path} is not a checkpoint of a run: it has no state_dict.")
    from src.run.checkpoint_tensors import entry_fault

    if invalid := next(
        (f"{name!a} {fault}" for name, value in weights.items() if (fault := entry_fault(name, value))), None
    ):
        raise ValueError(f"{path} is not a usable checkpoint: in its state_dict, {invalid}.")
    return checkpoint


def recorded_card(ckpt_path: Path) -> dict[str, Any] | None:
    """Return how a checkpoint describes the inputs and outputs of its net (see `src.predictor`); None if it does not.

    Raises:
        ValueError: the description is damaged, or see `read_checkpoint`.
    """
    from src.predictor import check_card, fields_of, upgrade

    card = read_checkpoint(ckpt_path).get(INPUT_KEY)
    if card is None:
        return None
    try:
        card = upgrade(card)
        check_card(card, fields_of(card))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{ckpt_path} is damaged: its {INPUT_KEY} says {error}") from error
    return card


def unreadable(path: Path, error: Exception) -> ValueError:
    """Create the error for a file that torch cannot read."""
    return ValueError(f"{path} cannot be read as a checkpoint: it is truncated or damaged ({first_line(error)}).")


def check_fits(ckpt_path: Path, model: "nn.Module") -> dict[str, Any]:
    """Read a checkpoint and check that its parameters have the names, shapes and dtype kinds of the model's.

    Raises:
        ValueError: gives the number of differences and the first ones.
    """
    checkpoint = read_checkpoint(ckpt_path)
    from src.run.checkpoint_tensors import shape_and_kind

    theirs, ours = shape_and_kind(checkpoint["state_dict"]), shape_and_kind(model.state_dict())
    different = [
        f"{printable(name)} is {theirs.get(name, 'missing')} in the checkpoint and {ours.get(name, 'missing')} in the "
        "model"
        for name in [*ours, *(name for name in theirs if name not in ours)]
        if theirs.get(name) != ours.get(name)
    ]
    if different:
        first, count = "; ".join(different[:3]), len({*ours, *theirs})
        raise ValueError(
            f"{ckpt_path} does not match the model: {len(different)} of {counted(count, 'tensor')} differ ({first}"
            f"{'; …' if len(different) > 3 else ''}). Omit model=… when naming a run (its own net is used), "
            f"or start training from the matching weights: init_from={ckpt_path}"
        )
    return checkpoint
