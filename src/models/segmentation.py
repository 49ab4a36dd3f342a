"""Semantic segmentation: a class for every pixel."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from src.models.classifier import Classifier
from src.models.metrics import SegmentationMetrics, are_classes, confusion_matrix, iou_and_dice
from src.models.task import Batch


class Segmentation(Classifier):
    """Train any net that maps images (B, C, H, W) to logits (B, num_classes, H, W).

    Targets are masks (B, H, W). Pixels whose value is not a class are ignored by metrics and pictures; the criterion
    has its own `ignore_index`.

    Args:
        args, options: see `Classifier`; the criterion is called with logits and masks.
    """

    output_name = "mask"

    def setup(self, stage: str) -> None:
        """Set up the classifier, and pass the class names to the test metrics."""
        super().setup(stage)
        if card := self.data_card():
            self.test_metrics.class_names = self.output_card(card)[self.output_name]["names"]

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the masks (B, H, W) of a batch.

        Raises:
            ValueError: the data have no masks.
        """
        masks = batch[-1]
        if masks.ndim != 3:
            raise ValueError(
                f"The task needs masks (B, H, W), but the targets are of shape {tuple(masks.shape)}: choose data with "
                "masks, such as data=digit_scenes."
            )
        return {self.output_name: masks.long()}

    def make_metrics(self, stage: str) -> SegmentationMetrics:
        """Create the metrics of a stage."""
        return SegmentationMetrics()

    def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Describe the output as a mask of named classes, with the colour of each.

        Raises:
            ValueError: the data have several labels.
        """
        heads = input_card["heads"]
        if len(heads) != 1:
            raise ValueError(
                f"The task predicts one mask, but the labels of the data are {', '.join(heads)}: choose data with "
                "masks, such as data=digit_scenes."
            )
        (names,) = heads.values()
        return {self.output_name: {"kind": "mask", "names": names, "colors": palette(len(names)).tolist()}}

    def sample_errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the fraction of wrong pixels (B,) of each image."""
        counted = are_classes(target, output.shape[1])
        wrong = (output.argmax(dim=1) != target) & counted  # (B, H, W)
        return wrong.sum(dim=(1, 2)) / counted.sum(dim=(1, 2)).clamp(min=1)

    def describe_samples(self, output: Tensor, target: Tensor, card: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the fraction of `wrong_pixels` of each image, and its mean intersection over union (`miou`)."""
        samples = zip(output.split(1), target.split(1), strict=True)
        mious = [iou_and_dice(confusion_matrix(logits, mask))[0].nanmean().item() for logits, mask in samples]
        errors = self.sample_errors(output, target).tolist()
        return [{"wrong_pixels": error, "miou": miou} for error, miou in zip(errors, mious, strict=True)]

    def caption(self, description: Mapping[str, Any]) -> str:
        """Caption an image with its fraction of wrong pixels."""
        return f"{description['wrong_pixels']:.1%} wrong"

    def target_captions(self, targets: Mapping[str, Tensor], cards: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Leave the samples without captions: their masks are shown next to them."""
        return [""] * len(targets[self.output_name])

    def target_panels(self, images: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the images and their masks in colours (B, 3, H, W)."""
        return {"image": in_rgb(images), "truth": in_colors(targets[self.output_name])}

    def panels(self, images: Tensor, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the image, the true mask, the predicted one, and the wrong pixels in red (B, 3, H, W)."""
        predicted = output.argmax(dim=1)  # (B, H, W)
        wrong = ((predicted != target) & are_classes(target, output.shape[1]))[:, None]  # (B, 1, H, W)
        image = in_rgb(images)
        red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        errors = torch.where(wrong, red, 0.4 * image)
        truth = self.target_panels(images, {self.output_name: target})
        return {**truth, "prediction": in_colors(predicted), "errors": errors}


def palette(count: int) -> Tensor:
    """Return distinct colours (count, 3), uint8, in the order of Pascal VOC's; the first is black."""
    index = torch.arange(count)
    colors = torch.zeros(count, 3, dtype=torch.long)
    for bit in range(8):  # the bits of an index, three by three, become the highest bits of red, green and blue
        for channel in range(3):
            colors[:, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return colors.byte()


def in_colors(masks: Tensor) -> Tensor:
    """Colour masks (B, H, W), negative labels like 255; returns (B, 3, H, W) in [0, 1]."""
    return (palette(256)[masks.cpu().clamp(-1, 255)].float() / 255).permute(0, 3, 1, 2)  # -1: the last colour


def in_rgb(images: Tensor) -> Tensor:
    """Scale images (B, C, H, W) of any range to (B, 3, H, W) in [0, 1]."""
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return ((images - low) / (high - low).clamp(min=1e-6)).expand(-1, 3, -1, -1)
