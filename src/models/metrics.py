"""The figures of a stage, summed up on the device with a handful of operations a step."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchmetrics import Metric


class LossAndAccuracy(Metric):
    """Mean loss and accuracy over all samples of an epoch and, under DDP, of all processes.

    One metric in place of two generic ones: it costs a third of their time a step, a real share of a small net's.
    """

    full_state_update = False
    loss: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss (), logits (B, num_classes) and labels (B,)."""
        self.loss += loss * len(labels)
        self.correct += (logits.argmax(dim=1) == labels).sum()
        self.count += len(labels)

    def compute(self) -> dict[str, Tensor]:
        """Return `loss` and `acc`."""
        return {"loss": self.loss / self.count, "acc": self.correct / self.count}


class MultiheadLossAndAccuracy(nn.ModuleDict):
    """`LossAndAccuracy` for each of several heads, and over all: the weighted sum of losses and the mean accuracy.

    Args:
        loss_weights: of each head.
    """

    def __init__(self, loss_weights: Mapping[str, float]) -> None:
        super().__init__({name: LossAndAccuracy() for name in loss_weights})
        self.loss_weights = dict(loss_weights)

    def compute(self) -> dict[str, Tensor]:
        """Return `<head>/loss` and `<head>/acc` for each head, `loss` and `acc`."""
        heads = {name: metric.compute() for name, metric in self.items()}  # type: ignore[operator]
        values = {f"{name}/{key}": value for name, pair in heads.items() for key, value in pair.items()}
        values["loss"] = torch.stack([self.loss_weights[name] * pair["loss"] for name, pair in heads.items()]).sum()
        values["acc"] = torch.stack([pair["acc"] for pair in heads.values()]).mean()
        return values

    def reset(self) -> None:
        """Begin a new epoch."""
        for metric in self.values():
            metric.reset()  # type: ignore[operator]
