"""Loss and accuracy of an epoch are those of all its samples, however they are cut into batches."""

import pytest
import torch

from src.models.metrics import LossAndAccuracy, LossAndBalancedAccuracy, Means, MultiheadLossAndAccuracy

# losses of seven samples, and whether the net was right
LOSSES = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 14.0])  # mean 5
RIGHT = torch.tensor([True, False, False, True, False, False, False])  # 2 of 7
METRICS = pytest.mark.parametrize("kind", [LossAndAccuracy, LossAndBalancedAccuracy])


def filled(metric: LossAndAccuracy, start: int, *sizes: int) -> LossAndAccuracy:
    """The metric, after batches of these sizes that begin at the sample `start`."""
    for size in sizes:
        chosen = slice(start, start + size)
        logits = torch.eye(3)[torch.zeros(size, dtype=torch.long)]  # says 0
        metric.update(LOSSES[chosen].mean(), logits, (~RIGHT[chosen]).long() * 2)
        start += size
    return metric


def check(metric: LossAndAccuracy) -> None:
    figures = metric.compute()
    balanced = isinstance(metric, LossAndBalancedAccuracy)
    assert set(figures) == {"loss", "acc"} | ({"balanced_acc"} if balanced else set())
    assert figures["loss"].item() == pytest.approx(5)
    assert figures["acc"].item() == pytest.approx(2 / 7)
    if balanced:  # those of class 0 are right, those of class 2 are not, and there are none of class 1
        assert figures["balanced_acc"].item() == 0.5


@METRICS
@pytest.mark.parametrize("sizes", [(7,), (4, 3), (3, 3, 1), (1,) * 7], ids=str)
def test_uneven_batches_weigh_by_their_samples(kind: type[LossAndAccuracy], sizes: tuple[int, ...]) -> None:
    check(filled(kind(), 0, *sizes))


@METRICS
def test_a_new_epoch_starts_from_nothing(kind: type[LossAndAccuracy]) -> None:
    metric = filled(kind(), 4, 2)
    metric.reset()
    check(filled(metric, 0, 5, 2))


@METRICS
def test_the_figures_of_several_processes_add_up(kind: type[LossAndAccuracy]) -> None:
    ours, theirs = filled(kind(), 0, 3, 2), filled(kind(), 5, 2)
    ours.merge_state(theirs)  # reduces as a gathering of processes does
    check(ours)


@METRICS
def test_its_state_is_no_part_of_a_checkpoint(kind: type[LossAndAccuracy]) -> None:
    assert not filled(kind(), 0, 7).state_dict()


def test_a_rare_class_counts_as_much_as_a_frequent_one() -> None:
    metric = LossAndBalancedAccuracy()
    labels = torch.tensor([0] * 95 + [1] * 4 + [3])  # none of class 2
    answers = torch.tensor([0] * 95 + [1, 0, 0, 0] + [3])
    metric.update(torch.tensor(1.0), torch.eye(5)[answers], labels)
    figures = metric.compute()
    assert figures["acc"].item() == pytest.approx(97 / 100)
    assert figures["balanced_acc"].item() == pytest.approx((1 + 1 / 4 + 1) / 3)


def test_several_heads_are_told_one_by_one_and_on_average() -> None:
    metric = MultiheadLossAndAccuracy({"a": 1.0, "b": 0.5}, LossAndBalancedAccuracy)
    metric["a"].update(torch.tensor(2.0), torch.eye(2)[[0, 0, 0]], torch.tensor([0, 0, 1]))
    metric["b"].update(torch.tensor(4.0), torch.eye(3)[[0, 1, 2]], torch.tensor([0, 1, 2]))
    figures = {name: value.item() for name, value in metric.compute().items()}
    assert figures == pytest.approx(
        {
            **{"a/loss": 2.0, "a/acc": 2 / 3, "a/balanced_acc": 0.5, "b/loss": 4.0, "b/acc": 1.0},
            **{"b/balanced_acc": 1.0, "loss": 4.0, "acc": 5 / 6, "balanced_acc": 0.75},
        }
    )


def test_means_weigh_batches_by_their_samples_and_begin_anew() -> None:
    metrics = Means("loss", "error")
    for _ in range(2):
        metrics.update(3, loss=torch.tensor(1.0), error=torch.tensor([1.0, 2.0, 6.0]))
        metrics.update(1, loss=torch.tensor(5.0), error=torch.tensor([7.0]))
        assert {name: value.item() for name, value in metrics.compute().items()} == {"loss": 2.0, "error": 4.0}
        metrics.reset()


def test_means_miss_a_value_that_is_not_given() -> None:
    with pytest.raises(KeyError, match="error"):
        Means("loss", "error").update(1, loss=torch.tensor(1.0))
