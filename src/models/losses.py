"""Cross-entropy with class weights."""

from collections.abc import Mapping, Sequence

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
        weight: of each class; or "balanced": inversely proportional to its number of training images, with a mean of 1
            over those images. Balanced weights are computed before training and saved in checkpoints.
        label_smoothing: share of a label that is spread over all classes (Szegedy et al. 2015, arXiv 1512.00567).

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
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing} must be between 0 and 1.")
        self.balanced, self.label_smoothing = weight == BALANCED, label_smoothing
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
        """Return the mean loss () of logits (B, num_classes) and labels (B,)."""
        if self.weight is None:
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        smoothing = self.label_smoothing
        total = F.cross_entropy(logits, labels, self.weight, reduction="sum", label_smoothing=smoothing)
        return total / labels.numel()
