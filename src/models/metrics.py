"""Metrics accumulated on the device with few operations per step."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat


class Means(Metric):
    """Means of named values over all samples of an epoch and, under DDP, of all processes."""

    full_state_update = False
    count: Tensor

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.add_state(f"sum_{name}", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, count: int, **values: Tensor) -> None:
        """Add a batch of `count` samples: each value per sample (count,) or as the batch mean ()."""
        for name in self.names:
            value = values[name]
            getattr(self, f"sum_{name}").add_(value.sum() if value.ndim else value * count)
        self.count.add_(count)

    def compute(self) -> dict[str, Tensor]:
        """Return the mean of each value by name."""
        return {name: getattr(self, f"sum_{name}") / self.count for name in self.names}


class MeansAndAUROC(Means):
    """Means, and how well a score separates positive from negative samples: the area under the ROC curve."""

    scores: list[Tensor]
    positives: list[Tensor]

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("positives", [], dist_reduce_fx="cat")

    def add_scores(self, scores: Tensor, positives: Tensor) -> None:
        """Add the scores (B,) of a batch, not negative and higher for positive samples, and which are positive (B,)."""
        self.scores.append(scores)
        self.positives.append(positives)

    def compute(self) -> dict[str, Tensor]:
        """Return the means, and `auroc`: 0.5 by chance, 1 at best, NaN where all samples are of one kind."""
        scores, positives = dim_zero_cat(self.scores), dim_zero_cat(self.positives)  # (N,)
        both = positives.any() and not positives.all()
        auroc = binary_auroc(scores / scores.max(), positives.long()) if both else torch.full_like(scores[0], torch.nan)
        return {**super().compute(), "auroc": auroc}


class LossAndAccuracy(Metric):
    """Mean loss and accuracy over all samples of an epoch and, under DDP, of all processes.

    Takes a third of the time of a loss and an accuracy metric of torchmetrics, which matters for small nets.
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
        count = len(labels)
        self.loss.add_(loss * count)  # `+=` would also set the attribute, which costs as much as the sum
        self.correct.add_((logits.argmax(dim=1) == labels).sum())
        self.count.add_(count)

    def compute(self) -> dict[str, Tensor]:
        """Return `loss` and `acc`."""
        return {"loss": self.loss / self.count, "acc": self.correct / self.count}


class LossAndBalancedAccuracy(LossAndAccuracy):
    """Mean loss, accuracy, and balanced accuracy: the mean recall over the classes that occur."""

    outcomes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("outcomes", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")  # (2 num_classes,)

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """See `LossAndAccuracy`."""
        super().update(loss, logits, labels)
        correct = logits.argmax(dim=1) == labels
        self.outcomes = self.outcomes + torch.bincount(2 * labels + correct, minlength=2 * logits.shape[1])

    def compute(self) -> dict[str, Tensor]:
        """Return `loss`, `acc` and `balanced_acc`."""
        wrong, correct = self.outcomes.view(-1, 2).unbind(dim=1)  # (num_classes,) each
        counts = wrong + correct
        recalls = correct / counts.clamp(min=1)
        return {**super().compute(), "balanced_acc": recalls.sum() / counts.count_nonzero()}


class SegmentationMetrics(Means):
    """Mean loss, pixel accuracy, and overlap of the predicted with the true masks, over all pixels of an epoch.

    Pixels whose label is not a class are ignored. A class without a true or a predicted pixel does not count in means.

    Attributes:
        class_names: names of the classes, whose overlaps are reported one by one; none by default.
    """

    pairs: Tensor  # the confusion matrix; checkpoints of interrupted runs hold it by this name

    def __init__(self) -> None:
        super().__init__("loss")
        self.class_names: Sequence[str] = ()
        self.add_state("pairs", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")  # (num_classes, num_classes)

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:  # type: ignore[override]  # per task
        """Add a batch: its mean loss (), logits (B, num_classes, H, W) and labels (B, H, W)."""
        super().update(len(labels), loss=loss)
        self.pairs = self.pairs + confusion_matrix(logits, labels)

    def compute(self) -> dict[str, Tensor]:
        """Return `loss`, `acc`, `miou` and `dice`; for each named class `iou/<name>` and `dice/<name>`."""
        iou, dice = iou_and_dice(self.pairs)  # (num_classes,) each
        acc = self.pairs.diagonal().sum() / self.pairs.sum()
        classes = list(enumerate(self.class_names))
        return {
            **super().compute(),
            **{"acc": acc, "miou": iou.nanmean(), "dice": dice.nanmean()},
            **{f"iou/{name}": iou[label] for label, name in classes},
            **{f"dice/{name}": dice[label] for label, name in classes},
        }


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the confusion matrix (num_classes, num_classes); rows are true classes.

    Args:
        logits: (B, num_classes, …).
        labels: (B, …); those that are not a class are ignored.
    """
    num_classes = logits.shape[1]
    predicted = logits.max(dim=1).indices  # on CPUs 4× as fast as argmax over a non-contiguous dimension
    pairs = labels * num_classes + predicted
    pairs = pairs[are_classes(labels, num_classes)]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def are_classes(labels: Tensor, num_classes: int) -> Tensor:
    """Return which labels are a class; others, such as the `ignore_index` -100, are ignored."""
    return (labels >= 0) & (labels < num_classes)


def iou_and_dice(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Return the intersection over union and the Dice coefficient of each class (num_classes,), NaN for absent ones.

    Args:
        confusion: the confusion matrix (num_classes, num_classes).
    """
    common = confusion.diagonal()
    total = confusion.sum(dim=0) + confusion.sum(dim=1)  # counts common pixels twice
    return common / (total - common), 2 * common / total


class MultiheadMetrics(nn.ModuleDict):
    """Metrics of each head and overall: the weighted sum of the losses and the mean of every other metric.

    Args:
        loss_weights: weight of each head in the total loss.
        metric: creates the metrics of one head.
    """

    def __init__(self, loss_weights: Mapping[str, float], metric: Callable[[], LossAndAccuracy]) -> None:
        super().__init__({name: metric() for name in loss_weights})
        self.loss_weights = dict(loss_weights)

    def compute(self) -> dict[str, Tensor]:
        """Return `<head>/loss`, `<head>/acc`, … for each head, and the overall `loss`, `acc`, …"""
        heads = {name: metric.compute() for name, metric in self.items()}  # type: ignore[operator]
        values = {f"{name}/{key}": value for name, head in heads.items() for key, value in head.items()}
        values["loss"] = torch.stack([self.loss_weights[name] * head["loss"] for name, head in heads.items()]).sum()
        for key in next(iter(heads.values())):
            if key != "loss":
                values[key] = torch.stack([head[key] for head in heads.values()]).mean()
        return values

    def reset(self) -> None:
        """Reset the metrics of every head."""
        for metric in self.values():
            metric.reset()  # type: ignore[operator]
