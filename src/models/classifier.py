"""Image classification: one label per image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from src.models.losses import BALANCED, CrossEntropy
from src.models.metrics import LossAndAccuracy, LossAndBalancedAccuracy, confusion_matrix
from src.models.mixing import Mixing
from src.models.task import Batch, Outputs, Task


@runtime_checkable
class CountsClasses(Protocol):
    """A DataModule that counts its classes, for balanced class weights."""

    def class_counts(self) -> dict[str, Tensor]:
        """Return the number of images of each class (num_classes,), by split."""


class Classifier(Task):
    """Train any net that maps images (B, C, H, W) to logits (B, num_classes).

    Args:
        net: the net.
        optimizer: see `Task`.
        scheduler: see `Task`.
        criterion: called with logits (B, num_classes) and labels (B,); returns the mean loss.
        input_shape: (C, H, W) of an image.
        mixing: mixes training images and their labels.
        options: see `Task`.
    """

    output_name = "class"

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Any],
        scheduler: Callable[..., Any] | None,
        criterion: nn.Module,
        input_shape: Sequence[int],
        mixing: Mixing | None = None,
        **options: Any,
    ) -> None:
        super().__init__(net, optimizer, scheduler, input_shape, **options)
        self.criterion, self.mixing = criterion, mixing

    def setup(self, stage: str) -> None:
        """Check the number of classes, compile the net and compute balanced class weights, if configured."""
        if stage == "fit":
            self._check_classes()  # before the net is compiled
        super().setup(stage)
        if stage == "fit" and isinstance(self.criterion, CrossEntropy) and self.criterion.balanced:
            self.criterion.balance(self._training_counts())

    def _check_classes(self) -> None:
        """Check that the net has one logit for each class, if the DataModule names its classes.

        Raises:
            ValueError: an output is unknown to the data, or its number of logits differs from the number of classes.
        """
        card = self.data_card()
        if not card:
            return
        cards = self.output_card(card)
        for name, logits in self.example_outputs().items():
            if name not in cards:
                raise ValueError(
                    f"{type(self).__name__} predicts {name}, but the labels of the data are {', '.join(cards)}: choose "
                    "a model of another task, or other data."
                )
            if logits.shape[1] != len(names := cards[name]["names"]):
                raise ValueError(
                    f"The net outputs {logits.shape[1]} logits for {name}, but there are {len(names)} classes: set "
                    f"model.net.num_classes={len(names)}."
                )

    def _training_counts(self) -> Tensor:
        """Return the number of training images of each class (num_classes,), from the DataModule."""
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set dynamically by Lightning
        if not isinstance(datamodule, CountsClasses):
            raise ValueError(
                f"criterion.weight={BALANCED} needs class_counts(), which {type(datamodule).__name__} does not have: "
                "implement it, or give the weights as a list."
            )
        if card := self.data_card():
            names = [output["names"] for output in self.output_card(card).values()]
            if names != list(card["heads"].values()):
                raise ValueError(
                    f"criterion.weight={BALANCED} counts the classes of the data, but {type(self).__name__} predicts "
                    "other classes: give the weights as a list."
                )
        return datamodule.class_counts()["train"]

    def prepare(self, batch: Batch) -> Batch:
        """Mix the images of a training batch, if configured: their labels are then soft (B, num_classes)."""
        if self.mixing is None or not self.training or self.finished_fraction() >= self.mixing.until:
            return batch
        return self.mixing(*batch)

    def update_metrics(
        self, metrics: Any, losses: Mapping[str, Tensor], outputs: Outputs, targets: Mapping[str, Tensor]
    ) -> None:
        """Add a batch to the metrics of a stage; a mixed image counts with the label of its larger part."""
        super().update_metrics(metrics, losses, outputs, {name: hard(labels) for name, labels in targets.items()})

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the labels (B,), or soft ones (B, num_classes), of a batch by output name."""
        return {self.output_name: batch[-1]}

    def losses(self, outputs: Outputs, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean loss () of each output's logits (B, num_classes)."""
        return {name: self.criterion(logits, targets[name]) for name, logits in outputs.items()}

    def make_metrics(self, stage: str) -> Any:
        """Create the metrics of a stage; only evaluation includes balanced accuracy."""
        return LossAndAccuracy() if stage == "train" else LossAndBalancedAccuracy()

    def example_targets(self, outputs: Outputs) -> Tensor:
        """Draw random labels: (B,), (B, H, W) for logits of pixels, or (B, outputs) for a net with several outputs."""
        labels = [torch.randint(logits.shape[1], (len(logits), *logits.shape[2:])) for logits in outputs.values()]
        return labels[0] if len(labels) == 1 else torch.stack(labels, dim=1)

    def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Describe each output as the logits of named classes."""
        return {name: {"kind": "classes", "names": names} for name, names in input_card["heads"].items()}

    def sample_errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the confidence of each wrong prediction (B,), 0 for correct ones."""
        confidence, predicted = confidence_and_class(output)
        return confidence.where(predicted != target, 0.0)

    def describe_samples(self, output: Tensor, target: Tensor, card: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return each sample's true class (`label`), `predicted` class and its probability (`confidence`)."""
        names = card.get("names")
        samples = zip(target.tolist(), *(values.tolist() for values in confidence_and_class(output)), strict=True)
        return [
            {"label": class_name(label, names), "predicted": class_name(predicted, names), "confidence": confidence}
            for label, confidence, predicted in samples
        ]

    def caption(self, description: Mapping[str, Any]) -> str:
        """Caption a misclassified sample with its true and its predicted class."""
        return f"{description['label']}, not\n{description['predicted']} {description['confidence']:.0%}"

    def target_captions(self, targets: Mapping[str, Tensor], cards: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Caption each sample with the names of its classes."""
        columns = [label_captions(labels, cards.get(name, {}).get("names")) for name, labels in targets.items()]
        return [" / ".join(row) for row in zip(*columns, strict=True)]

    def confusion(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the confusion matrix (num_classes, num_classes); rows are true classes."""
        return confusion_matrix(output, target)


def confidence_and_class(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest probability (B,) and its class (B,) for logits (B, num_classes)."""
    confidence, predicted = logits.float().softmax(dim=1).max(dim=1)
    return confidence, predicted


def hard(labels: Tensor) -> Tensor:
    """Return labels (B, …) unchanged, and the most probable class (B,) of soft labels (B, num_classes)."""
    return labels.argmax(dim=1) if labels.is_floating_point() else labels


def label_captions(labels: Tensor, names: Sequence[str] | None) -> list[str]:
    """Return the class name of each label (B,), or the names and percentages of soft labels (B, num_classes)."""
    if not labels.is_floating_point():
        return [class_name(label, names) for label in labels.tolist()]
    rows = [[(share, label) for label, share in enumerate(row) if share >= 0.005] for row in labels.tolist()]
    return [
        "\n".join(f"{class_name(label, names)} {share:.0%}" for share, label in sorted(row, reverse=True))
        for row in rows
    ]


def class_name(label: int, names: Sequence[str] | None) -> str:
    """Return the name of a class, or its number if it has no name."""
    return names[label] if names and label < len(names) else str(label)
