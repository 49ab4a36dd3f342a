"""Loss and accuracy of an epoch are those of all its samples, however they are cut into batches."""

import pytest
import torch

from src.models.metrics import LossAndAccuracy

# losses of seven samples, and whether the net was right
LOSSES = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 14.0])  # mean 5
RIGHT = torch.tensor([True, False, False, True, False, False, False])  # 2 of 7


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
    assert set(figures) == {"loss", "acc"}
    assert figures["loss"].item() == pytest.approx(5)
    assert figures["acc"].item() == pytest.approx(2 / 7)


@pytest.mark.parametrize("sizes", [(7,), (4, 3), (3, 3, 1), (1,) * 7], ids=str)
def test_uneven_batches_weigh_by_their_samples(sizes: tuple[int, ...]) -> None:
    check(filled(LossAndAccuracy(), 0, *sizes))


def test_a_new_epoch_starts_from_nothing() -> None:
    metric = filled(LossAndAccuracy(), 4, 2)
    metric.reset()
    check(filled(metric, 0, 5, 2))


def test_the_figures_of_several_processes_add_up() -> None:
    ours, theirs = filled(LossAndAccuracy(), 0, 3, 2), filled(LossAndAccuracy(), 5, 2)
    ours.merge_state(theirs)  # reduces as a gathering of processes does
    check(ours)


def test_its_state_is_no_part_of_a_checkpoint() -> None:
    assert not filled(LossAndAccuracy(), 0, 7).state_dict()
