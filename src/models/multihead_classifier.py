"""Image classification with several heads on shared features."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from src.models.classifier import Classifier
from src.models.metrics import MultiheadMetrics
from src.models.task import Batch, Outputs


class MultiheadClassifier(Classifier):
    """Train any net that maps images (B, C, H, W) to a dict of logits, one entry per head.

    The classification nets of `src.models.components` do so if `num_classes` is a mapping. Labels are (B, heads), in
    the order of the heads. Each metric is logged per head, as `val/<head>/acc`, and overall: `val/acc` and
    `val/balanced_acc` are means over the heads, `val/loss` is the weighted sum.

    Args:
        args: see `Classifier`.
        loss_weights: weight of each head in the loss.
        options: see `Classifier`.

    Raises:
        ValueError: the net has a single output without a name, or `loss_weights` does not match its outputs.
    """

    def __init__(self, *args: Any, loss_weights: Mapping[str, float], **options: Any) -> None:
        self.loss_weights = dict(loss_weights)
        super().__init__(*args, **options)
        heads = list(self.example_outputs())
        if heads == [self.output_name] != list(self.loss_weights):
            raise ValueError(
                f"The task has the heads {', '.join(self.loss_weights)}, but the net has one output without a name, as "
                "for one label per image: choose data whose num_classes names these heads, such as "
                "data=mnist_multihead or data=mnist_5k_multihead."
            )
        if heads != list(self.loss_weights):
            raise ValueError(f"loss_weights has the heads {list(self.loss_weights)}, but the net's are {heads}.")

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the labels (B,) of each head, from (B, heads)."""
        return dict(zip(self.loss_weights, batch[-1].unbind(dim=1), strict=True))

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum () of the heads' losses."""
        return torch.stack([weight * losses[name] for name, weight in self.loss_weights.items()]).sum()

    def make_metrics(self, stage: str) -> Any:
        """Create the metrics of a stage, per head and overall."""
        return MultiheadMetrics(self.loss_weights, lambda: super(MultiheadClassifier, self).make_metrics(stage))

    def update_metrics(
        self, metrics: Any, losses: Mapping[str, Tensor], outputs: Outputs, targets: Mapping[str, Tensor]
    ) -> None:
        """Add a batch to the metrics of each head."""
        for name, metric in metrics.items():
            metric.update(losses[name], outputs[name], targets[name])
