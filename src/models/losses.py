"""Cross-entropy with class weights, and with the Dice loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BALANCED = "balanced"


class CrossEntropy(nn.Module):
    """Cross-entropy, optionally with class weights.

    Weighted losses are divided by the number of samples, so that the mean over an epoch does not depend on the batch
    size; torch's `CrossEntropyLoss` divides by the sum of the weights in a batch, which cancels them in a batch of a
    single class.

    Args:
        num_classes: size of the output.
        weight: the weight of each class; or "balanced": inversely proportional to its number of training images, with
            a mean of 1 over those images. Balanced weights are computed before training and saved in checkpoints.
        label_smoothing: share of a label that is spread over all classes (Szegedy et al. 2015, arXiv 1512.00567).
        ignore_index: label of samples that do not count.

    Raises:
        ValueError: `weight` is not one non-negative number per class or is given for several heads, or
            `label_smoothing` is not between 0 and 1.
    """

    weight: Tensor | None

    def __init__(
        self,
        num_classes: int | Mapping[str, int],
        weight: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing} must be between 0 and 1.")
        self.balanced, self.label_smoothing, self.ignore_index = weight == BALANCED, label_smoothing, ignore_index
        self.register_buffer("weight", None)
        if weight is None:
            return
        if not isinstance(num_classes, int):
            raise ValueError(
                f"weight={weight} needs a net with a single head: to weight several heads, set loss_weights."
            )
        if isinstance(weight, str) and not self.balanced:
            raise ValueError(f"weight={weight} must be {BALANCED}, or a list of one number per class.")
        values = [1.0] * num_classes if self.balanced else [float(value) for value in weight]
        if len(values) != num_classes or min(values) < 0:
            raise ValueError(f"weight={weight} must be num_classes={num_classes} non-negative numbers.")
        # balanced weights come from the data, so checkpoints keep them; a list is in the configuration
        self.register_buffer("weight", torch.tensor(values), persistent=self.balanced)

    def balance(self, counts: Tensor) -> None:
        """Compute balanced weights from the number of training images per class (num_classes,)."""
        assert self.weight is not None
        present = counts > 0  # a class without images gets a weight of 1
        weight = counts.sum() / (present.sum() * counts.clamp(min=1))
        self.weight.copy_(torch.where(present, weight, 1.0))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss () of logits (B, num_classes, …) and labels (B, …), or soft labels (B, num_classes)."""
        options: dict[str, Any] = {"ignore_index": self.ignore_index, "label_smoothing": self.label_smoothing}
        if self.weight is None:
            return F.cross_entropy(logits, labels, **options)
        total = F.cross_entropy(logits, labels, self.weight, reduction="sum", **options)
        return total / (len(labels) if labels.is_floating_point() else (labels != self.ignore_index).sum())


class CrossEntropyAndDice(CrossEntropy):
    """Weighted sum of the cross-entropy and the soft Dice loss (Milletari et al. 2016, arXiv 1606.04797) of masks.

    The Dice loss of a batch is 1 minus the mean Dice coefficient of the classes that occur in its masks, computed with
    probabilities. It counts small objects as much as large ones.

    Args:
        num_classes: size of the output.
        cross_entropy_weight: factor of the cross-entropy; 0: only the Dice loss.
        dice_weight: factor of the Dice loss; 0: only the cross-entropy.
        options: see `CrossEntropy`.

    Raises:
        ValueError: a weight is negative, or both are 0; or see `CrossEntropy`.
    """

    def __init__(
        self, num_classes: int, cross_entropy_weight: float = 1.0, dice_weight: float = 1.0, **options: Any
    ) -> None:
        super().__init__(num_classes, **options)
        if min(cross_entropy_weight, dice_weight) < 0 or max(cross_entropy_weight, dice_weight) == 0:
            raise ValueError(
                f"cross_entropy_weight={cross_entropy_weight} and dice_weight={dice_weight} must not be negative, and "
                "one of them must be above 0."
            )
        self.cross_entropy_weight, self.dice_weight = cross_entropy_weight, dice_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss () of logits (B, num_classes, H, W) and masks (B, H, W)."""
        loss = logits.new_zeros((), dtype=torch.float32)
        if self.cross_entropy_weight:
            loss = loss + self.cross_entropy_weight * super().forward(logits, labels)
        if self.dice_weight:
            loss = loss + self.dice_weight * dice_loss(logits, labels, self.ignore_index)
        return loss


def dice_loss(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Return 1 minus the mean soft Dice coefficient () of the classes that occur.

    Args:
        logits: (B, num_classes, …).
        labels: (B, …).
        ignore_index: label of samples that do not count.
    """
    counted = (labels != ignore_index)[:, None]  # (B, 1, …)
    probabilities = logits.float().softmax(dim=1) * counted  # (B, num_classes, …)
    truth = torch.zeros_like(probabilities).scatter_(1, labels[:, None].where(counted, 0), 1.0) * counted
    others = [0, *range(2, logits.ndim)]  # all but the classes
    common, total = (probabilities * truth).sum(others), (probabilities + truth).sum(others)  # (num_classes,)
    occurs = truth.sum(others) > 0
    dice = (2 * common / total.clamp(min=1e-6)).where(occurs, 0.0)
    return 1 - dice.sum() / occurs.sum().clamp(min=1)
