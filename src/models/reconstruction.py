"""Image reconstruction through a bottleneck (autoencoders)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from src.models.metrics import Means
from src.models.task import Batch, Outputs, Task


class Reconstruction(Task):
    """Train any net that maps normalised images (B, C, H, W) to their pixels (B, C, H, W) in [0, 1].

    The loss is the mean squared error over all values; labels are not used.

    Args:
        args, options: see `Task`.
    """

    output_name = "image"
    mean: Tensor
    std: Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # of the pixels (C, 1, 1), to undo the normalisation of the inputs; saved in checkpoints
        channels = self.example_input_array.shape[1]  # type: ignore[union-attr]  # a tensor
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def setup(self, stage: str) -> None:
        """Read the mean and standard deviation of the pixels from the data before training."""
        super().setup(stage)
        if stage == "fit":
            card = self.trainer.datamodule.input_card()  # type: ignore[attr-defined]  # set out of mypy's sight
            for buffer, values in ((self.mean, card["mean"]), (self.std, card["std"])):
                buffer.copy_(torch.tensor(values).view(-1, 1, 1))

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the pixels (B, C, H, W) of the images, in [0, 1]."""
        return {self.output_name: self.pixels(batch[0])}

    def pixels(self, images: Tensor) -> Tensor:
        """Undo the normalisation of images (B, C, H, W)."""
        return images * self.std + self.mean

    def losses(self, outputs: Outputs, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean squared error () over all values."""
        return {name: torch.nn.functional.mse_loss(output.float(), targets[name]) for name, output in outputs.items()}

    def make_metrics(self, stage: str) -> Metric:
        """Create the metrics of a stage; the peak signal-to-noise ratio is in dB, for a peak of 1."""
        return Means("loss", "mse", "psnr")

    def update_metrics(
        self, metrics: Any, losses: Mapping[str, Tensor], outputs: Outputs, targets: Mapping[str, Tensor]
    ) -> None:
        """Add a batch to the metrics of a stage."""
        name = self.output_name
        errors = self.sample_errors(outputs[name], targets[name])  # (B,)
        psnr = -10 * errors.clamp(min=1e-10).log10()  # a perfect image counts as 100 dB
        metrics.update(len(errors), loss=losses[name], mse=errors, psnr=psnr)

    def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Describe the output as an image in [0, 1]."""
        return {self.output_name: {"kind": "image"}}

    def sample_errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error (B,) of each image."""
        return (output.float() - target).square().flatten(1).mean(dim=1)

    def describe_samples(self, output: Tensor, target: Tensor, card: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the mean squared error (`mse`) of each image."""
        return [{"mse": error} for error in self.sample_errors(output, target).tolist()]

    def panels(self, images: Tensor, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the input, the output and their absolute difference (B, C, H, W)."""
        return {"input": target, "output": output.clamp(0, 1), "difference": (output - target).abs()}
