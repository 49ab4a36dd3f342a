"""Anomaly detection: images unlike the training images are reconstructed worse (Sakurada & Yairi 2014)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from src.models.metrics import MeansAndAUROC
from src.models.reconstruction import Reconstruction
from src.models.task import Batch, Outputs


class AnomalyDetection(Reconstruction):
    """Train an autoencoder on normal images, and test whether its error separates anomalies from them.

    Args:
        args: see `Reconstruction`.
        anomalies: labels of the anomalies in the test data; the training data have none of them (`data.held_out`).
        options: see `Reconstruction`.

    Raises:
        ValueError: `anomalies` is empty.
    """

    anomalies: Tensor

    def __init__(self, *args: Any, anomalies: Sequence[int], **options: Any) -> None:
        if not anomalies:
            raise ValueError("anomalies=[] names no class: set data.held_out to one or more classes, such as [8].")
        super().__init__(*args, **options)
        self.register_buffer("anomalies", torch.tensor(anomalies), persistent=False)

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the pixels (B, C, H, W) of the images, and whether each is an anomaly (B,) by its first label."""
        labels = batch[-1].view(len(batch[-1]), -1)[:, 0]
        return {**super().targets(batch), "anomaly": torch.isin(labels, self.anomalies.to(labels.device))}

    def make_metrics(self, stage: str) -> Metric:
        """Create the metrics of a stage; only the test data have anomalies."""
        return MeansAndAUROC("loss", "mse", "psnr", "ssim") if stage == "test" else super().make_metrics(stage)

    def update_metrics(
        self, metrics: Any, losses: Mapping[str, Tensor], outputs: Outputs, targets: Mapping[str, Tensor]
    ) -> None:
        """Add a batch to the metrics of a stage; an image's score is its mean squared error."""
        super().update_metrics(metrics, losses, outputs, targets)
        if isinstance(metrics, MeansAndAUROC):
            errors = self.sample_errors(outputs[self.output_name], targets[self.output_name])
            metrics.add_scores(errors, targets["anomaly"])
