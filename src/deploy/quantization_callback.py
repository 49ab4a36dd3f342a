"""Quantise the net at the end of a run, and compare score, size and speed."""

import copy
import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from src.deploy.exporting import Limited, check_replaceable, split_loaders
from src.deploy.inference_net import inference_copy
from src.deploy.quantizer import Quantizer
from src.deploy.report import print_lines, print_models
from src.deploy.speed import compare_speeds, weights_size
from src.models.task import DescribesInputs, Task
from src.predictor import input_shape
from src.run.record import RunRecord

log = logging.getLogger(__name__)


class Quantization(L.Callback):
    """Quantise a copy of the tested net, and report how score, size and speed change.

    It acts after the test, which has loaded the best weights; the model and its checkpoints are not changed.
    `int8/` in the run directory then holds the model, and `metrics.json` and the loggers its metrics next to the net's:
    the task's score on the test images, such as `int8/acc` and `fp32/acc`, `…/size_mb`, `…/latency_ms` of a single
    image, `…/images_per_second` at batch 32, and `int8/layers` of `int8/layers_total` that compute in int8.

    Args:
        dirpath: the folder of the int8 model.
        seconds: time to measure each speed metric.
        compiled: torch.compile a torch model before it is timed; other formats need no compiling.
        options: see `src.deploy.quantizer.Quantizer`.

    Raises:
        ValueError: see `Quantizer`.
        ModuleNotFoundError: see `Quantizer`; raised before training, not after it.
    """

    def __init__(self, dirpath: str, seconds: float = 1.0, compiled: bool = True, **options: Any) -> None:
        self.quantizer = Quantizer(**options)
        self.dirpath, self.seconds, self.compiled = Path(dirpath), seconds, compiled

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check before training that there are images to calibrate and evaluate with, and a folder for the model.

        Raises:
            ValueError: the DataModule does not describe its inputs, or has no images to calibrate or evaluate with; or
                the net cannot be exported; or the folder holds anything but an exported model.
        """
        check_replaceable(self.dirpath)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]  # set dynamically by Lightning
        if not isinstance(datamodule, DescribesInputs):
            raise ValueError(
                f"quantization needs a DataModule with input_card(); {type(datamodule).__name__} has none."
            )
        for split in ("train", "val"):
            limit = getattr(trainer, f"limit_{split}_batches")
            if not len(Limited(getattr(datamodule, f"{split}_dataloader")(), limit)):
                raise ValueError(f"quantization needs {split} images, and there are none: see data.val_size, limits.")
        if stage == "fit":  # the test after training need not check again
            inference_copy(on_cpu(pl_module).net, input_shape(datamodule.input_card()))  # can it be traced?

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Quantise, measure and report on rank zero; other processes wait."""
        if trainer.is_global_zero:
            try:
                with torch.inference_mode(False), torch.enable_grad(), isolate_rng():
                    metrics = self.quantise(trainer, on_cpu(pl_module))
            except (ValueError, OSError) as error:  # the run itself has its metrics, and keeps them
                log.error("There is no int8 model of this run: %s", error)
                RunRecord.add_entries(trainer, quantization=f"failed: {error}")
            else:
                pl_module.log_dict(metrics, rank_zero_only=True)
        trainer.strategy.barrier("quantization")

    def quantise(self, trainer: L.Trainer, model: Task) -> dict[str, float]:
        """Write the int8 model of a task, print the table, and return the metrics."""
        datamodule: Any = copy.copy(trainer.datamodule)  # type: ignore[attr-defined]  # set dynamically by Lightning
        datamodule.trainer = None  # so that this process reads all images, not its rank's share
        card = datamodule.input_card()
        limits: Any = {split: getattr(trainer, f"limit_{split}_batches") for split in ("train", "val", "test")}
        loaders = split_loaders(datamodule)
        batches = {split: lambda s=split: Limited(loaders[s](), limits[s]) for split in limits}
        quantized = self.quantizer(model, card, batches, self.dirpath)
        exported = {"int8": self.dirpath}
        speeds = compare_speeds(model.net, exported, input_shape(card), self.seconds, self.compiled)
        test, score = quantized.test, model.score
        rows: dict[str, dict[str, float]] = {
            "fp32": {score: test.reference_value, "size_mb": weights_size(model.net) / 1e6},
            "int8": {score: test.value, "size_mb": quantized.size_mb, **quantized.layer_counts},
        }
        rows = {name: row | speeds[name] for name, row in rows.items()}
        print_models(rows, score, f"{self.quantizer.format}, {self.quantizer.mode}")
        print_lines(*quantized.remarks(self.quantizer.max_drop))
        return {f"{name}/{metric}": value for name, row in rows.items() for metric, value in row.items()}


def on_cpu(model: Any) -> Any:
    """Return a copy of a task without its trainer, in float32 on the CPU, which alone has the int8 kernels."""
    return copy.deepcopy(model, {id(model._trainer): None}).cpu().float()
