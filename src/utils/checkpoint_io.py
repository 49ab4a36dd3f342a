"""How checkpoints reach the disk: whole or not at all, and never in place of the only good one."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from src.utils.checkpoint_names import LAST, PREVIOUS


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
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if target.name == LAST and target.is_file():
                target.replace(target.with_name(PREVIOUS))
            temporary.replace(target)
            for stale in target.parent.glob(f".{target.name}.*.tmp"):  # of a process that was killed while it wrote
                stale.unlink(missing_ok=True)
            flush_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
            temporary.unlink(missing_ok=True)
            raise OSError(f"{target} cannot be written ({reason(error)}); checkpoints written before stay.") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, without running code from it, whatever `weights_only` says."""
        return super().load_checkpoint(path, map_location or (lambda storage, _: storage), weights_only=True)


def reason(error: BaseException) -> str:
    """The system's own words for what went wrong, where they are to be had."""
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
