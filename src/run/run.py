"""A recorded run, opened again: to resume or reproduce it, evaluate, export or predict with it, or train from it."""

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config.stored_config import plain_config
from src.run.checkpoints import CONFIG_KEY, read_checkpoint, recorded_best
from src.run.file_names import CHECKPOINTS, CONFIG, LAST, PREVIOUS, RECORD, TRACEBACK
from src.system.json_files import part, read_json
from src.system.safe_files import printable, read_yaml

log = logging.getLogger(__name__)

EXPECTED = {
    "run_dir": ("not a folder", "runs are in logs/train/runs/"),
    "ckpt_path": ("not a file", "checkpoints are in <run>/checkpoints/"),
    "init_from": ("neither a run nor a checkpoint", "runs are in logs/train/runs/"),
    "teacher": ("neither a run, a checkpoint nor an exported model", "runs are in logs/train/runs/"),
}
DAMAGED = ".damaged"  # appended to the name of a checkpoint that is set aside


@dataclass(frozen=True)
class Run:
    """A run's folder and the contents of its files.

    Args:
        folder: the run directory.
        ckpt_path: the checkpoint that was named instead of the folder.
        key: the configuration key that named it, for messages.
    """

    folder: Path
    ckpt_path: Path | None = None
    key: str = "run_dir"

    @classmethod
    def open(cls, path: str | Path, key: str = "run_dir") -> "Run":
        """Open a run by its folder or, for the keys `ckpt_path`, `init_from` and `teacher`, by one of its checkpoints.

        Raises:
            FileNotFoundError: there is no such folder or file.
        """
        path = Path(path)
        if key != "run_dir" and path.is_file():
            return cls(path.parent.parent, path, key)
        if key != "ckpt_path" and path.is_dir():
            return cls(path, None, key)
        wanted, location = EXPECTED[key]
        raise FileNotFoundError(f"{key}={path} is {wanted}; {location}.")

    @property
    def checkpoint_dir(self) -> Path:
        """Return the folder of its checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def epoch_checkpoints(self) -> list[Path]:
        """Return the checkpoints of single epochs, in order; pipes and folders of such names are skipped."""
        return sorted(path for path in self.checkpoint_dir.glob("epoch_*.ckpt") if path.is_file())

    @property
    def record(self) -> dict[str, Any]:
        """Return the content of its `run.json`; empty if it is missing or damaged."""
        return read_json(self.folder / RECORD)

    @property
    def seed(self) -> int | None:
        """Return the recorded seed, or None if there is no valid one."""
        seed = self.record.get("seed")
        return seed if type(seed) is int and 0 <= seed < 2**32 else None

    @property
    def recipe(self) -> str | None:
        """Return the recipe that it was trained with, even if its model has another one by now; None if unknown."""
        choices = part(self.record, "choices")
        return str(choices.get("recipe") or legacy_recipe(self.record)) if choices else None

    @property
    def stored_config(self) -> dict[str, Any]:
        """Return the configuration in its folder, as plain values; empty if there is none.

        Raises:
            ValueError: it is damaged, or holds more than plain values.
        """
        path = self.folder / CONFIG
        return plain_config(read_yaml(path), str(path), self.folder.resolve()) if path.is_file() else {}

    def config(self) -> dict[str, Any]:
        """Return the configuration in its folder or, if the checkpoint was moved from there, in the checkpoint itself.

        Raises:
            ValueError: there is none, it is damaged, or it holds more than plain values.
        """
        if stored := self.stored_config:
            return stored
        ckpt_path = self.best_checkpoint()
        config = read_checkpoint(ckpt_path).get(CONFIG_KEY)
        if config is None:
            raise ValueError(f"{ckpt_path} holds no configuration: it was not made by src/train.py.")
        return plain_config(config, str(ckpt_path), self.folder.resolve())

    def best_checkpoint(self) -> Path:
        """Return the checkpoint that was named, else the best one of the run, else (without a best one) the last one.

        Raises:
            FileNotFoundError: there is none, or the best one was deleted.
            ValueError: there are several, and the file that records which one is the best is damaged.
        """
        if self.ckpt_path:
            return self.ckpt_path
        self.check_has_checkpoint()
        epochs, last = self.epoch_checkpoints, self.checkpoint_dir / LAST
        if len(epochs) > 1:
            return recorded_best(last if last.is_file() else epochs[-1])
        return epochs[0] if epochs else last

    def check_has_checkpoint(self) -> None:
        """Raise FileNotFoundError if there is no checkpoint; none is read."""
        if self.ckpt_path or self.epoch_checkpoints or (self.checkpoint_dir / LAST).is_file():
            return
        failure = self.folder / TRACEBACK
        why = f"; {failure} tells why it failed" if failure.is_file() else ""
        raise FileNotFoundError(
            f"{self.key}={self.folder} holds no run: there is no checkpoint in {self.checkpoint_dir}{why}."
        )

    def resumable_checkpoint(self) -> Path | None:
        """Return the last checkpoint or, if that is damaged, the one before; None if the run has not written any yet.

        A damaged checkpoint is set aside under another name.

        Raises:
            ValueError: none of the checkpoints can be read, or the last ones are missing although others exist.
        """
        candidates = [self.checkpoint_dir / name for name in (LAST, PREVIOUS)]
        damaged = [path for path in map(damaged_name, candidates) if path.is_file()]
        for path in filter(Path.is_file, candidates):
            try:
                read_checkpoint(path)
            except ValueError as error:
                damaged.append(path.replace(damaged_name(path)))
                log.warning("%s It is set aside as %s.", printable(str(error)), damaged[-1].name)
            else:
                return path
        if damaged:
            names = sorted({path.name.removesuffix(DAMAGED) for path in damaged})
            fault = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} damaged"
            raise ValueError(f"{self.folder} cannot be resumed: {fault}, and set aside; {self.recovery_hint()}")
        # a run may be killed after its first epoch's checkpoint and before its first last.ckpt
        if trained := [path for path in self.epoch_checkpoints if not path.name.startswith("epoch_000")]:
            raise ValueError(
                f"{self.folder} is missing {LAST} although {trained[-1].name} exists: {self.recovery_hint()}"
            )
        return None

    def recovery_hint(self) -> str:
        """Suggest what to do with a run that cannot be resumed."""
        if not (kept := self.epoch_checkpoints):
            return (
                f"there is no other checkpoint: train again, in a new folder, with "
                f"{shlex.quote(f'reproduce={self.folder}')}"
            )
        resume, ckpt_path, init_from = (
            shlex.quote(f"{key}={value}")
            for key, value in {"resume": self.folder, "ckpt_path": kept[-1], "init_from": kept[-1]}.items()
        )
        return (
            f"resume from an epoch checkpoint with {resume} {ckpt_path}, or start a run from its weights with "
            f"{init_from}"
        )


def damaged_name(path: Path) -> Path:
    """Return the name under which a damaged checkpoint is set aside."""
    return path.with_name(f"{path.name}{DAMAGED}")


def legacy_recipe(record: Mapping[str, Any]) -> str:
    """Return the recipe that matches the settings of a run from before recipes were recorded."""
    if record.get("task") == "Segmentation":
        return "segmentation"
    return "hybrid_imagenet" if str(part(record, "choices").get("model")).startswith("hybrid_") else "plain"
