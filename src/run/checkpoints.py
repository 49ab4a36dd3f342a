"""Read checkpoints without running code from them, and check that they fit a model."""

import logging
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.system.safe_files import printable
from src.system.wording import counted

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # torch costs seconds to import, and a missing file is found without it
    from torch import nn

CONFIG_KEY = "config"  # where a checkpoint keeps the run's configuration
INPUT_KEY = "input_card"  # and how an image becomes an input
RESUME_KEY = "exact_resume"  # and what Lightning leaves out that a run is resumed with


def recorded_best(ckpt_path: Path) -> Path:
    """The checkpoint that was the best when another one of its folder was written, as ModelCheckpoint recorded it.

    Raises:
        FileNotFoundError: it is gone.
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


def check_left(ckpt_path: Path, max_epochs: int | None, max_steps: int) -> None:
    """Check that a run which goes on with the checkpoint of another one has something left to train.

    Args:
        ckpt_path: the checkpoint.
        max_epochs: of the trainer; -1 or None: no limit.
        max_steps: of the trainer; -1: no limit.

    Raises:
        ValueError: it would end at once, or the file holds weights alone.
    """
    checkpoint = read_checkpoint(ckpt_path)
    if "loops" not in checkpoint:  # of Trainer.save_checkpoint(weights_only=True)
        raise ValueError(
            f"ckpt_path={ckpt_path} holds no training state, only weights: start a new run with init_from={ckpt_path}."
        )
    done, why, way_out = progress_of(checkpoint, max_epochs, max_steps)
    if why:
        raise ValueError(
            f"ckpt_path={ckpt_path} has had {done}, and nothing is left to train ({why}): "
            f"{way_out}start anew from its weights with init_from={ckpt_path}."
        )


def log_if_finished(ckpt_path: Path, max_epochs: int | None, max_steps: int) -> None:
    """Log that a resumed run is already finished, if it is.

    Args:
        ckpt_path: its checkpoint.
        max_epochs: of the trainer; -1 or None: no limit.
        max_steps: of the trainer; -1: no limit.
    """
    done, why, _ = progress_of(read_checkpoint(ckpt_path), max_epochs, max_steps)
    if why:
        log.info("This run has finished already, after %s (%s): nothing is left to train.", done, why)


def progress_of(checkpoint: dict[str, Any], max_epochs: int | None, max_steps: int) -> tuple[str, str, str]:
    """Describe a checkpoint's progress, why training is complete and which limit to raise (both empty if it is not)."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    steps = checkpoint["global_step"]
    limits = {"trainer.max_epochs": (max_epochs, epochs), "trainer.max_steps": (max_steps, steps)}
    reached = {key: most for key, (most, done) in limits.items() if most is not None and 0 <= most <= done}
    why = ", ".join(f"{key}={most}" for key, most in reached.items())
    if not reached and checkpoint.get(RESUME_KEY, {}).get("should_stop"):
        why = "its run was stopped early"
    done = f"{counted(epochs, 'epoch')} and {counted(steps, 'step')}"
    return done, why, f"raise {' and '.join(reached)}, or " if reached else ""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this project without running code from it.

    The last one read is kept, mapped from the disk, so that a resumed run reads its checkpoint once; do not modify it.

    Raises:
        ValueError: the file is truncated, damaged or something else.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return read_version(path, status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def read_version(path: Path, *version: int) -> dict[str, Any]:
    """Read a checkpoint, unless it was the last to be read and its file's inode, time and size are the same."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:  # a checkpoint is an archive with a checksum for each tensor
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:  # torch compresses nothing
                raise zipfile.BadZipFile("it would unpack to more than it is")
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"the checksum of {damaged} differs")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged file may do to its readers
        raise unreadable(path, error) from error
    if not isinstance(checkpoint, dict) or not isinstance(weights := checkpoint.get("state_dict"), dict):
        raise ValueError(f"{path} is not a checkpoint of a run: it has no state_dict.")
    from src.run.checkpoint_tensors import entry_fault

    if odd := next(
        (f"{name!a} {fault}" for name, value in weights.items() if (fault := entry_fault(name, value))), None
    ):
        raise ValueError(f"{path} is no checkpoint that can be used: in its state_dict {odd}.")
    return checkpoint


def unreadable(path: Path, error: Exception) -> ValueError:
    """The error of a file that torch cannot read."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ValueError(f"{path} is no checkpoint that can be read: it is truncated or damaged ({reason}).")


def check_fits(ckpt_path: Path, model: "nn.Module") -> dict[str, Any]:
    """Read a checkpoint and check that its parameters have the names and shapes of the model's, and are such numbers.

    Raises:
        ValueError: says how many differ, and which come first.
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
            f"{ckpt_path} is of another architecture: {len(different)} of {counted(count, 'tensor')} differ ({first}"
            f"{'; …' if len(different) > 3 else ''}). Omit model=… when naming a run (its own net is used), "
            f"or start training from the matching weights: init_from={ckpt_path}"
        )
    return checkpoint
