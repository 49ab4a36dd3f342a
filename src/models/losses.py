"""Losses that know of classes of different sizes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BALANCED = "balanced"


class CrossEntropy(nn.Module):
    """Cross-entropy, in which the loss of a sample may be multiplied by the weight of its class.

    The mean is over all samples, whatever they weigh, so that it is the same however they are cut into batches; torch's
    own `CrossEntropyLoss` divides by the weights of a batch, which takes them back where a batch is of one class.

    Args:
        num_classes: size of the output.
        weight: of each class; or "balanced": by the inverse of its share of the training images, 1 on average of them,
            which the task tells before training and checkpoints keep.
        label_smoothing: share of a label that is spread over all classes (Szegedy et al. 2015, arXiv 1512.00567).

    Raises:
        ValueError: weights that are not one number above 0 for each class, or weights for several heads.
    """

    weight: Tensor | None

    def __init__(
        self,
        num_classes: int | Mapping[str, int],
        weight: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.balanced, self.label_smoothing = weight == BALANCED, label_smoothing
        self.register_buffer("weight", None)
        if weight is None:
            return
        if not isinstance(num_classes, int):
            raise ValueError(f"weight={weight} is for the classes of one head: several are weighed by loss_weights.")
        if isinstance(weight, str) and not self.balanced:
            raise ValueError(f"weight={weight} must be {BALANCED}, or a list with a number for each class.")
        values = [1.0] * num_classes if self.balanced else [float(value) for value in weight]
        if len(values) != num_classes or min(values) < 0:
            raise ValueError(f"weight={weight} must have a number of at least 0 for each of {num_classes} classes.")
        # what is measured on the data is kept in checkpoints, what is given in the configuration
        self.register_buffer("weight", torch.tensor(values), persistent=self.balanced)

    def balance(self, counts: Tensor) -> None:
        """Let every class count alike, by its number of training images: counts (num_classes,)."""
        assert self.weight is not None
        present = counts > 0  # a class without images has no share; its weight is 1
        weight = counts.sum() / (present.sum() * counts.clamp(min=1))
        self.weight.copy_(torch.where(present, weight, 1.0))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss () of logits (B, num_classes) and labels (B,)."""
        if self.weight is None:
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        smoothing = self.label_smoothing
        total = F.cross_entropy(logits, labels, self.weight, reduction="sum", label_smoothing=smoothing)
        return total / labels.numel()
