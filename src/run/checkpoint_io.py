"""Atomic checkpoint writes that never overwrite the only good checkpoint."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from src.run.checkpoints import read_checkpoint, read_version
from src.run.file_names import LAST, PREVIOUS
from src.system.json_files import replacing

SUFFIX = ".ckpt"  # of all checkpoints of Lightning's
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of its ModelCheckpoint


class SafeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint under a temporary name, flush it to the disk, and rename it.

    A process that is killed meanwhile, or a disk that is full, leaves the former file as it was. Of `last.ckpt` one
    former version is kept, as `previous.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: the disk is full or cannot be written; says which checkpoint and that the former one stays.
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
            for stale in target.parent.glob(f".{target.name}.*.tmp"):  # of a process that was killed while it wrote
                stale.unlink(missing_ok=True)
            flush_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
            raise OSError(f"{target} cannot be written ({reason(error)}); earlier checkpoints are kept.") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, without running code from it, whatever `weights_only` says.

        Raises:
            ValueError: it names files that are no checkpoints, for Lightning to go on from or to delete.
        """
        checkpoint = copy.deepcopy(read_checkpoint(Path(path)))  # it is mapped from a file, and optimizers write to it
        read_version.cache_clear()
        localise_paths(checkpoint, Path(path))
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint, which is a file; Lightning would delete whole folders."""
        Path(path).unlink(missing_ok=True)


def localise_paths(checkpoint: dict[str, Any], path: Path) -> None:
    """Make the paths in ModelCheckpoint's state point into the checkpoint's own folder.

    The folder may have been moved or copied since they were written.

    Raises:
        ValueError: they name something that is no checkpoint, or are damaged.
    """
    folder = os.path.realpath(path.parent)  # as ModelCheckpoint has it

    def here(text: str) -> str:
        if text and not text.endswith(SUFFIX):
            raise ValueError(f"it names {text} as a checkpoint")
        return str(Path(folder, Path(text).name)) if text else ""

    try:
        for state in checkpoint.get("callbacks", {}).values():
            if isinstance(state, dict) and "best_model_path" in state:
                state["dirpath"] = folder
                state |= {key: here(state[key]) for key in PATHS}
                state["best_k_models"] = {here(text): score for text, score in state["best_k_models"].items()}
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is refused: the state of its ModelCheckpoint is damaged ({error}).") from error


def reason(error: BaseException) -> str:
    """The operating system's error message if there is one, else the first line of the exception's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).strip().partition("\n")[0]


def flush_folder(folder: Path) -> None:
    """Let a rename survive a power failure, where the system can (Windows cannot open a folder)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
