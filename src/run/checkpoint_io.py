"""Atomic checkpoint writes that never overwrite the only good checkpoint."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from src.run.checkpoints import read_cached, read_checkpoint
from src.run.file_names import LAST, PREVIOUS
from src.system.json_files import replacing
from src.system.wording import first_line

SUFFIX = ".ckpt"  # Lightning gives it to all checkpoints
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # entries of ModelCheckpoint's state


class SafeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint under a temporary name, flush it to disk, and rename it.

    If the process is killed or the disk is full, the earlier file stays intact. The previous version of `last.ckpt` is
    kept as `previous.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: the file cannot be written, for example because the disk is full.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target, "xb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
                if target.name == LAST and target.is_file():
                    target.replace(target.with_name(PREVIOUS))
            for stale in target.parent.glob(f".{target.name}.*.tmp"):  # left by a process that was killed while writing
                stale.unlink(missing_ok=True)
            flush_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
            raise OSError(f"{target} cannot be written ({reason(error)}); earlier checkpoints are kept.") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, without running code from it, whatever `weights_only` says.

        Raises:
            ValueError: it names files other than checkpoints, which Lightning would load or delete.
        """
        # it is memory-mapped, and optimizers modify it in place
        checkpoint = copy.deepcopy(read_checkpoint(Path(path)))
        read_cached.cache_clear()
        rebase_paths(checkpoint, Path(path))
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint file; Lightning would delete a folder, too."""
        Path(path).unlink(missing_ok=True)


def rebase_paths(checkpoint: dict[str, Any], path: Path) -> None:
    """Make the paths in ModelCheckpoint's state point into the checkpoint's folder, which may have been moved.

    Raises:
        ValueError: a path does not name a checkpoint, or the state is damaged.
    """
    folder = os.path.realpath(path.parent)  # as ModelCheckpoint stores it

    def rebase(text: str) -> str:
        if text and not text.endswith(SUFFIX):
            raise ValueError(f"it names {text} as a checkpoint")
        return str(Path(folder, Path(text).name)) if text else ""

    try:
        for state in checkpoint.get("callbacks", {}).values():
            if isinstance(state, dict) and "best_model_path" in state:
                state["dirpath"] = folder
                state |= {key: rebase(state[key]) for key in PATHS}
                state["best_k_models"] = {rebase(text): score for text, score in state["best_k_models"].items()}
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is refused: the state of its ModelCheckpoint is damaged ({error}).") from error


def reason(error: BaseException) -> str:
    """Return the operating system's error message if there is one, else the first line of the exception's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return first_line(error)


def flush_folder(folder: Path) -> None:
    """Make a rename survive a power failure, if the system supports it (Windows cannot open a folder)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
