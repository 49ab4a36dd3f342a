"""Image classification: one label an image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from src.models.losses import BALANCED, CrossEntropy
from src.models.metrics import LossAndAccuracy, LossAndBalancedAccuracy
from src.models.task import Batch, DescribesInputs, Outputs, Task


@runtime_checkable
class CountsClasses(Protocol):
    """A DataModule that can balance the weights of classes."""

    def class_counts(self) -> dict[str, Tensor]:
        """Count the images of each class (num_classes,) in each split."""


class Classifier(Task):
    """Train any net that maps images (B, C, H, W) to logits (B, num_classes).

    Args:
        net: the net.
        optimizer: see `Task`.
        scheduler: see `Task`.
        criterion: called with logits (B, num_classes) and labels (B,); returns the mean loss.
        input_shape: (C, H, W) of an image.
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
        **options: Any,
    ) -> None:
        super().__init__(net, optimizer, scheduler, input_shape, **options)
        self.criterion = criterion

    def setup(self, stage: str) -> None:
        """Check the number of classes, and balance the class weights if the configuration says so."""
        if self._trainer is not None:
            self._check_classes()  # before the net is compiled
        super().setup(stage)
        if stage == "fit" and isinstance(self.criterion, CrossEntropy) and self.criterion.balanced:
            self.criterion.balance(self._training_counts())

    def _check_classes(self) -> None:
        """Check that the net has one logit for each class, where the data tell their classes.

        Raises:
            ValueError: an output has more logits than classes, or fewer.
        """
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it out of mypy's sight
        if not isinstance(datamodule, DescribesInputs):
            return
        cards = self.output_card(datamodule.input_card())
        for name, logits in self.example_outputs().items():
            if logits.shape[1] != len(names := cards[name]["names"]):
                raise ValueError(
                    f"The net gives {logits.shape[1]} logits for {name}, but {type(self).__name__} has "
                    f"{len(names)} classes: set model.net.num_classes={len(names)}."
                )

    def _training_counts(self) -> Tensor:
        """Return the number of training images of each class (num_classes,), from the DataModule."""
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it out of mypy's sight
        if not isinstance(datamodule, CountsClasses):
            raise ValueError(
                f"criterion.weight={BALANCED} asks the data for class_counts(), and {type(datamodule).__name__} has no "
                "such method: write it, or give the weights as a list."
            )
        if isinstance(datamodule, DescribesInputs):
            card = datamodule.input_card()
            if self.output_card(card) != Classifier.output_card(self, card):
                raise ValueError(
                    f"criterion.weight={BALANCED} counts the classes of the data, but {type(self).__name__} predicts "
                    "classes of its own: give the weights as a list."
                )
        return datamodule.class_counts()["train"]

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the labels (B,) of a batch."""
        return {self.output_name: batch[-1]}

    def losses(self, outputs: Outputs, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean loss () of the logits (B, num_classes) of each output."""
        return {name: self.criterion(logits, targets[name]) for name, logits in outputs.items()}

    def make_metrics(self, stage: str) -> Any:
        """Make the metrics of a stage; balanced accuracy is for evaluation."""
        return LossAndAccuracy() if stage == "train" else LossAndBalancedAccuracy()

    def example_targets(self, outputs: Outputs) -> Tensor:
        """Draw labels (B,) at random; (B, outputs) for a net with several outputs."""
        labels = [torch.randint(logits.shape[1], (len(logits),)) for logits in outputs.values()]
        return labels[0] if len(labels) == 1 else torch.stack(labels, dim=1)

    def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Say that outputs are logits, and of which classes."""
        return {name: {"kind": "classes", "names": names} for name, names in input_card["heads"].items()}

    def sample_errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how sure the net was of each wrong answer (B,), and 0 for right ones."""
        confidence, predicted = output.float().softmax(dim=1).max(dim=1)  # (B,) each
        return confidence.where(predicted != target, 0.0)

    def describe_samples(self, output: Tensor, target: Tensor, card: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the true class (`label`), the `predicted` one and its probability (`confidence`) of each sample."""
        confidences, classes = output.float().softmax(dim=1).max(dim=1)  # (B,) each
        names = card.get("names")
        return [
            {
                "label": class_name(label, names),
                "predicted": class_name(predicted, names),
                "confidence": confidence,
            }
            for label, predicted, confidence in zip(
                target.tolist(), classes.tolist(), confidences.tolist(), strict=True
            )
        ]

    def caption(self, facts: Mapping[str, Any]) -> str:
        """Say what a mistaken sample is, and what it was taken for."""
        return f"{facts['label']}, not\n{facts['predicted']} {facts['confidence']:.0%}"

    def target_captions(self, targets: Mapping[str, Tensor], cards: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Name the classes of each sample."""
        columns = [
            [class_name(label, cards.get(name, {}).get("names")) for label in labels.tolist()]
            for name, labels in targets.items()
        ]
        return [" / ".join(row) for row in zip(*columns, strict=True)]

    def confusion(self, output: Tensor, target: Tensor) -> Tensor:
        """Count pairs of true and predicted class (num_classes, num_classes); rows: true."""
        num_classes = output.shape[1]
        pairs = torch.bincount(target * num_classes + output.argmax(dim=1), minlength=num_classes**2)
        return pairs.view(num_classes, num_classes)


def class_name(label: int, names: Sequence[str] | None) -> str:
    """The name of a class, or its number where it has none."""
    return names[label] if names and label < len(names) else str(label)
