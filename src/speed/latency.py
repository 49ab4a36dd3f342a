"""The latency of a single image, as a metric that a study can optimise in addition to accuracy."""

import statistics

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from src.speed.measure import inference_step, latencies


class Latency(L.Callback):
    """Measure the net before training, and log `latency_ms`, the median for one image, with the metrics of each epoch.

    It is measured with the threads of training, and is not reliable while other jobs use the same cores.

    Args:
        seconds: how long to measure.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        if seconds <= 0:
            raise ValueError(f"latency.seconds={seconds} must be above 0.")
        self.seconds = seconds

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure with a blank image, (1, C, H, W)."""
        assert isinstance(pl_module.example_input_array, torch.Tensor)  # (2, C, H, W)
        image = torch.zeros_like(pl_module.example_input_array[:1], device=pl_module.device)
        with isolate_rng():
            self.latency_ms = 1000 * statistics.median(latencies(inference_step(pl_module, image), self.seconds))
        pl_module.train()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the latency."""
        pl_module.log("latency_ms", self.latency_ms, sync_dist=True)
