"""Record a run: its environment, timing and results."""

import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only

from src.data.protocols import ComputesChecksums
from src.models.counting import count_parameters
from src.models.task import DescribesInputs, Task
from src.run.checkpoints import CONFIG_KEY, INPUT_KEY
from src.run.differences import differences, log_differences
from src.run.file_names import CONFIG, RECORD
from src.run.journal import completed_epochs, epoch_line, journal
from src.run.recorded_overrides import record_overrides
from src.run.run import Run
from src.system.cpu import load_average
from src.system.json_files import write_json, write_whole

EPOCH_START = {"seconds": 0.0, "validation_seconds": 0.0, "images": 0}
PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy")


def environment() -> dict[str, Any]:
    """Describe what else a run's result depends on: code, command, packages, processor, threads."""
    changes = git("status", "--porcelain")
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "git_commit": git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": load_average(),
    }


def git(*arguments: str) -> str | None:
    """Return the output of a git command in this checkout; None without git or a repository."""
    folder = Path(__file__).parent
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def cpu_name() -> str:
    """Return the processor's name, as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


class RunRecord(L.Callback):
    """Write `run.json` at the start, store the configuration in every checkpoint, and time the epochs.

    Args:
        folder: the run directory.
        config: the run's configuration as it is stored, see `src.config.stored_config`.
        entries: further entries of `run.json`.
        resumed: this run continues the one in the folder, and its `run.json` is extended.
        compared_with: the folder of a recorded run; differences from it are logged.
    """

    def __init__(
        self,
        folder: str,
        config: dict[str, Any],
        entries: dict[str, Any],
        resumed: bool = False,
        compared_with: str | None = None,
    ) -> None:
        self.folder, self.config, self.entries, self.resumed = Path(folder), config, entries, resumed
        self.choices = entries.get("choices", {})  # of this start; a resumed run may have started with others
        self.compared_with, self._written = compared_with, False
        self._trains = False  # in the current stage
        self.epoch_seconds: list[float] = []
        self.images_per_second: list[float] = []
        self._logged_epochs = 0
        self._epoch_progress: dict[str, float] = dict(EPOCH_START)
        self._clock_start: float | None = None
        self._validation_start = 0.0

    @rank_zero_only
    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file to the run directory."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / name, content)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Record the environment before anything can fail."""
        self._trains = stage == "fit"
        if self._written:  # the test after training belongs to the same run
            return
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]  # set dynamically by Lightning
        data = datamodule.checksums() if isinstance(datamodule, ComputesChecksums) else {}
        task = (
            {"task": type(pl_module).__name__, "score": pl_module.score, "mode": pl_module.mode}
            if isinstance(pl_module, Task)
            else {}
        )
        known = environment() if trainer.is_global_zero else {}  # other ranks write and log nothing
        now = {**self.entries, **task, **known, "processes": trainer.world_size, "data": data}
        if self.resumed and (changed := differences(self.config, Run(self.folder))):
            now["changed"] = changed
        if self.compared_with and trainer.is_global_zero:
            log_differences(self.config, Run(Path(self.compared_with)), now)
        if trainer.is_global_zero:
            (self.folder / CONFIG).parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / CONFIG, yaml.safe_dump(self.config, sort_keys=False))
            if self.resumed and HydraConfig.initialized():
                record_overrides(self.folder, list(HydraConfig.get().overrides.task))
        before = Run(self.folder).record if self.resumed else {}
        previous = before["resumed"] if isinstance(before.get("resumed"), list) else []
        self.entries = {**before, "resumed": [*previous, now]} if before else now
        self.write(RECORD, self.entries)
        self._written = True
        if trainer.is_global_zero:
            choices, net = self.entries.get("choices", {}), getattr(pl_module, "net", pl_module)
            journal.info("command: python %s", now["command"])
            journal.info("run directory: %s", self.folder)
            journal.info("data: %s (%s)", choices.get("data", ""), type(datamodule).__name__)
            name, parameters = type(net).__name__, count_parameters(pl_module)
            journal.info("model: %s (%s), %s parameters", choices.get("model", ""), name, f"{parameters:,}")

    def state_dict(self) -> dict[str, Any]:
        """Return the times of all epochs, including the current one, for checkpoints."""
        return {
            "epoch_seconds": self.epoch_seconds,
            "images_per_second": self.images_per_second,
            "amid_epoch": {**self._epoch_progress, "seconds": self._seconds()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epoch times of the interrupted run; ignored when a checkpoint is only tested."""
        if self._trains:
            self.epoch_seconds = list(state_dict["epoch_seconds"])
            self.images_per_second = list(state_dict["images_per_second"])
            self._epoch_progress = dict(state_dict.get("amid_epoch", EPOCH_START))

    @staticmethod
    def add_entries(trainer: L.Trainer, **entries: Any) -> None:
        """Add entries to the `run.json` of a trainer's run, if it has one."""
        for record in trainer.callbacks:  # type: ignore[attr-defined]  # set dynamically by Lightning
            if isinstance(record, RunRecord):
                record.entries |= entries
                record.write(RECORD, record.entries)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration and a description of the model's inputs and outputs to a checkpoint."""
        checkpoint[CONFIG_KEY] = self.config
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]  # set dynamically by Lightning
        if isinstance(datamodule, DescribesInputs) and isinstance(pl_module, Task):
            checkpoint[INPUT_KEY] = pl_module.card(datamodule.input_card())

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; when resuming mid-epoch, Lightning does not call on_train_epoch_start."""
        self._clock_start = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the previous epoch, whose metrics are now complete, and start the clock."""
        self._log_epoch(trainer)
        self._epoch_progress, self._clock_start = dict(EPOCH_START), time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the last epoch."""
        self._log_epoch(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Log the last completed epoch."""
        self._log_epoch(trainer)

    def _log_epoch(self, trainer: L.Trainer) -> None:
        epoch, line = completed_epochs(trainer), epoch_line(trainer)
        if trainer.is_global_zero and epoch > self._logged_epochs and line is not None:
            self._logged_epochs = epoch
            journal.info("%s", line)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count samples."""
        self._epoch_progress["images"] += len(batch[0])

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the validation."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of the validation."""
        if not trainer.sanity_checking:
            self._epoch_progress["validation_seconds"] += time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the duration of the epoch, including validation, and the training throughput."""
        seconds, progress = self._seconds(), self._epoch_progress
        self.epoch_seconds.append(seconds)
        self.images_per_second.append(
            progress["images"] * trainer.world_size / (seconds - progress["validation_seconds"])
        )
        self._epoch_progress, self._clock_start = dict(EPOCH_START), None
        metrics = {"epoch_seconds": seconds, "images_per_second": self.images_per_second[-1]}
        pl_module.log_dict(metrics, sync_dist=True)

    def _seconds(self) -> float:
        """Return the seconds of the current epoch, before and after an interruption."""
        running = time.perf_counter() - self._clock_start if self._clock_start is not None else 0.0
        return self._epoch_progress["seconds"] + running

    def timing_metrics(self) -> dict[str, float]:
        """Return the medians of `epoch_seconds`, including validation, and of `images_per_second` in training; and the
        number of `epochs` and their total `train_seconds`, excluding work that was lost and repeated.
        """
        if not self.epoch_seconds:
            return {}
        return {
            "epoch_seconds": statistics.median(self.epoch_seconds),
            "images_per_second": statistics.median(self.images_per_second),
            "epochs": len(self.epoch_seconds),
            "train_seconds": sum(self.epoch_seconds),
        }
