"""Image reconstruction through a bottleneck (autoencoders), from clean or corrupted images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from src.models.components.layers import check_positive
from src.models.corruption import content_seeds, corrupt
from src.models.metrics import Means
from src.models.task import Batch, Outputs, Task


class Reconstruction(Task):
    """Train any net that maps normalised images (B, C, H, W) to their pixels (B, C, H, W) in [0, 1].

    The loss is the mean squared error over all values; labels are not used. Other outputs of the net, such as a code
    (B, D), have no loss of their own.

    Args:
        args: see `Task`.
        noise_std: standard deviation of Gaussian noise added to the input, for pixels from 0 to 1; the target has none.
        mask_fraction: fraction of patches that are replaced by the data's mean colour in the input, not in the target.
        patch_size: height and width of such a patch; 1: single pixels.
        options: see `Task`.

    Raises:
        ValueError: a value is out of its range.
    """

    output_name = "image"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *args: Any,
        noise_std: float = 0.0,
        mask_fraction: float = 0.0,
        patch_size: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        check_positive(patch_size=patch_size)
        if noise_std < 0:
            raise ValueError(f"noise_std={noise_std} must not be negative.")
        if not 0 <= mask_fraction < 1:
            raise ValueError(f"mask_fraction={mask_fraction} must be at least 0 and below 1.")
        self.noise_std, self.mask_fraction, self.patch_size = noise_std, mask_fraction, patch_size
        self.corrupts = noise_std > 0 or mask_fraction > 0
        # statistics of the pixels (C, 1, 1), to undo the normalisation of the inputs; saved in checkpoints
        channels = self.example_input_array.shape[1]  # type: ignore[union-attr]  # a tensor
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def setup(self, stage: str) -> None:
        """Read the mean and standard deviation of the pixels from the data before training.

        Raises:
            ValueError: the data do not provide them.
        """
        super().setup(stage)
        if stage == "fit":
            card, data = self.data_card(), type(self.trainer.datamodule)  # type: ignore[attr-defined]  # set dynamically by Lightning
            if not {"mean", "std"} <= card.keys():
                raise ValueError(
                    f"{type(self).__name__} needs mean and std in input_card(), which {data.__name__} does not return: "
                    "use image data, such as data=mnist."
                )
            for buffer, values in ((self.mean, card["mean"]), (self.std, card["std"])):
                buffer.copy_(torch.tensor(values).view(-1, 1, 1))

    def prepare(self, batch: Batch) -> Batch:
        """Corrupt the images, if configured, and insert the clean images after them."""
        if not self.corrupts:
            return batch
        clean, *rest = batch
        seeds = None if self.training else content_seeds((255 * self.pixels(clean)).round())
        images = corrupt(
            clean,
            noise_std=self.noise_std / self.std.to(clean.device),
            mask_fraction=self.mask_fraction,
            patch_size=self.patch_size,
            seeds=seeds,
        )
        return [images, clean, *rest]

    def named_outputs(self, *inputs: Tensor) -> Outputs:
        """Map the first of the inputs, images (B, C, H, W), to outputs by name; clean images may follow them."""
        return super().named_outputs(inputs[0])

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the pixels (B, C, H, W) of the clean images, in [0, 1]."""
        return {self.output_name: self.pixels(batch[-2])}

    def pixels(self, images: Tensor) -> Tensor:
        """Undo the normalisation of images (B, C, H, W)."""
        return images * self.std.to(images.device) + self.mean.to(images.device)

    def losses(self, outputs: Outputs, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean squared error () of the image over all values."""
        name = self.output_name
        return {name: torch.nn.functional.mse_loss(outputs[name].float(), targets[name])}

    def make_metrics(self, stage: str) -> Metric:
        """Create the metrics of a stage; the peak signal-to-noise ratio is in dB, for a peak of 1.

        The structural similarity (Wang et al. 2004) takes as long as a small net, and is left out in training.
        """
        return Means("loss", "mse", "psnr") if stage == "train" else Means("loss", "mse", "psnr", "ssim")

    def update_metrics(
        self, metrics: Any, losses: Mapping[str, Tensor], outputs: Outputs, targets: Mapping[str, Tensor]
    ) -> None:
        """Add a batch to the metrics of a stage."""
        output, target = outputs[self.output_name].float(), targets[self.output_name]
        errors = self.sample_errors(output, target)  # (B,)
        values = {"mse": errors, "psnr": -10 * errors.clamp(min=1e-10).log10()}  # a perfect image counts as 100 dB
        if "ssim" in metrics.names:
            similarity: Any = structural_similarity_index_measure  # annotated to return more than asked for
            values["ssim"] = similarity(output, target, data_range=1.0, reduction="none")
        metrics.update(len(errors), loss=losses[self.output_name], **values)

    def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Describe the output as an image in [0, 1], and any other output as a vector."""
        outputs = self.example_outputs()
        return {name: {"kind": "image" if name == self.output_name else "vector"} for name in outputs}

    def sample_errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error (B,) of each image."""
        return (output.float() - target).square().flatten(1).mean(dim=1)

    def describe_samples(self, output: Tensor, target: Tensor, card: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the mean squared error (`mse`) of each image."""
        return [{"mse": error} for error in self.sample_errors(output, target).tolist()]

    def panels(self, images: Tensor, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the input, the output and its absolute difference from the target (B, C, H, W)."""
        shown = {"input": self.pixels(images).clamp(0, 1), "output": output.clamp(0, 1)}
        clean = {"target": target} if self.corrupts else {}
        return {**shown, **clean, "difference": (output - target).abs()}
