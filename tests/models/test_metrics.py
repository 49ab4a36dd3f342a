"""The metrics of an epoch are means over its samples, regardless of the batch sizes."""

import pytest
import torch

from src.models.metrics import LossAndAccuracy, LossAndBalancedAccuracy, Means, MultiheadMetrics

# losses of seven samples, and whether their predictions are correct
LOSSES = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 14.0])  # mean 5
CORRECT = torch.tensor([True, False, False, True, False, False, False])  # 2 of 7
METRICS = pytest.mark.parametrize("metric_class", [LossAndAccuracy, LossAndBalancedAccuracy])


def updated(metric: LossAndAccuracy, start: int, *sizes: int) -> LossAndAccuracy:
    """Update the metric with batches of these sizes, beginning at sample `start`."""
    for size in sizes:
        batch = slice(start, start + size)
        logits = torch.eye(3)[torch.zeros(size, dtype=torch.long)]  # predicts class 0
        metric.update(LOSSES[batch].mean(), logits, (~CORRECT[batch]).long() * 2)
        start += size
    return metric


def check(metric: LossAndAccuracy) -> None:
    metrics = metric.compute()
    balanced = isinstance(metric, LossAndBalancedAccuracy)
    assert set(metrics) == {"loss", "acc"} | ({"balanced_acc"} if balanced else set())
    assert metrics["loss"].item() == pytest.approx(5)
    assert metrics["acc"].item() == pytest.approx(2 / 7)
    if balanced:  # recall is 1 for class 0 and 0 for class 2; class 1 does not occur
        assert metrics["balanced_acc"].item() == 0.5


@METRICS
@pytest.mark.parametrize("sizes", [(7,), (4, 3), (3, 3, 1), (1,) * 7], ids=str)
def test_uneven_batches_are_weighted_by_size(metric_class: type[LossAndAccuracy], sizes: tuple[int, ...]) -> None:
    check(updated(metric_class(), 0, *sizes))


@METRICS
def test_reset_starts_a_new_epoch(metric_class: type[LossAndAccuracy]) -> None:
    metric = updated(metric_class(), 4, 2)
    metric.reset()
    check(updated(metric, 0, 5, 2))


@METRICS
def test_metrics_are_reduced_over_processes(metric_class: type[LossAndAccuracy]) -> None:
    ours, theirs = updated(metric_class(), 0, 3, 2), updated(metric_class(), 5, 2)
    ours.merge_state(theirs)  # reduces like a sync over processes
    check(ours)


@METRICS
def test_metric_states_stay_out_of_the_state_dict(metric_class: type[LossAndAccuracy]) -> None:
    assert not updated(metric_class(), 0, 7).state_dict()


def test_balanced_accuracy_counts_rare_and_frequent_classes_alike() -> None:
    metric = LossAndBalancedAccuracy()
    labels = torch.tensor([0] * 95 + [1] * 4 + [3])  # none of class 2
    predictions = torch.tensor([0] * 95 + [1, 0, 0, 0] + [3])
    metric.update(torch.tensor(1.0), torch.eye(5)[predictions], labels)
    metrics = metric.compute()
    assert metrics["acc"].item() == pytest.approx(97 / 100)
    assert metrics["balanced_acc"].item() == pytest.approx((1 + 1 / 4 + 1) / 3)


def test_multihead_metrics_are_per_head_and_overall() -> None:
    metric = MultiheadMetrics({"a": 1.0, "b": 0.5}, LossAndBalancedAccuracy)
    metric["a"].update(torch.tensor(2.0), torch.eye(2)[[0, 0, 0]], torch.tensor([0, 0, 1]))
    metric["b"].update(torch.tensor(4.0), torch.eye(3)[[0, 1, 2]], torch.tensor([0, 1, 2]))
    metrics = {name: value.item() for name, value in metric.compute().items()}
    assert metrics == pytest.approx(
        {
            **{"a/loss": 2.0, "a/acc": 2 / 3, "a/balanced_acc": 0.5, "b/loss": 4.0, "b/acc": 1.0},
            **{"b/balanced_acc": 1.0, "loss": 4.0, "acc": 5 / 6, "balanced_acc": 0.75},
        }
    )


def test_means_are_weighted_by_batch_size_and_reset() -> None:
    metrics = Means("loss", "error")
    for _ in range(2):
        metrics.update(3, loss=torch.tensor(1.0), error=torch.tensor([1.0, 2.0, 6.0]))
        metrics.update(1, loss=torch.tensor(5.0), error=torch.tensor([7.0]))
        assert {name: value.item() for name, value in metrics.compute().items()} == {"loss": 2.0, "error": 4.0}
        metrics.reset()


def test_means_require_every_named_value() -> None:
    with pytest.raises(KeyError, match="error"):
        Means("loss", "error").update(1, loss=torch.tensor(1.0))
