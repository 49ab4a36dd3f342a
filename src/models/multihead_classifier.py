"""Several classifications of one image at once, by heads on shared features."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from src.models.classifier import Batch, Classifier
from src.models.metrics import LossAndAccuracy, MultiheadLossAndAccuracy


class MultiheadClassifier(Classifier):
    """Train any net that maps images (B, C, H, W) to a dict of logits, one entry for each head.

    All nets of `src.models.components` do so where `num_classes` is a mapping. Labels are (B, heads), in the order of
    the heads. Each figure is logged for each head, as `val/<head>/acc`, and over all: `val/acc` and
    `val/balanced_acc` are means over the heads, `val/loss` is the weighted sum.

    Args:
        args: see `Classifier`.
        loss_weights: share of each head in the loss.
        options: see `Classifier`.

    Raises:
        ValueError: the weights are not those of the net's heads, or it has a single one.
    """

    def __init__(self, *args: Any, loss_weights: Mapping[str, float], **options: Any) -> None:
        self.loss_weights = dict(loss_weights)
        super().__init__(*args, **options)
        if not isinstance(self.net.head, torch.nn.ModuleDict):
            raise ValueError(
                f"The task has the heads {', '.join(self.loss_weights)}, but the data has one label an image: choose "
                "data whose num_classes names these heads, such as data=mnist_multihead or data=mnist_5k_multihead."
            )
        heads = list(self.net.head)
        if heads != list(self.loss_weights):
            raise ValueError(f"loss_weights has the heads {list(self.loss_weights)}, but the net's are {heads}.")

    def make_metrics(self, metric: Callable[[], LossAndAccuracy]) -> Any:
        """The figures of one stage, for each head and over all."""
        return MultiheadLossAndAccuracy(self.loss_weights, metric)

    def step(self, batch: Batch, metrics: Any) -> tuple[Tensor, Any]:
        """Return the weighted loss of a batch and the logits of each head, and add it to the figures of a stage."""
        *inputs, labels = batch  # labels: (B, heads)
        logits = self.net(*inputs)  # (B, classes of the head) each
        losses = []
        for (name, weight), head_labels in zip(self.loss_weights.items(), labels.unbind(dim=1), strict=True):
            loss = self.criterion(logits[name], head_labels)
            metrics[name].update(loss.detach(), logits[name].detach(), head_labels)
            losses.append(weight * loss)
        return torch.stack(losses).sum(), logits
