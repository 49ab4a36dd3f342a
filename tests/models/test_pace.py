"""Schedules continue from their position when a run gets a new plan, and end with the run."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from src.models import schedulers
from src.models.pace import Pace


def test_the_steps_of_a_run_that_goes_as_planned_are_those_of_its_schedules() -> None:
    pace = Pace([(0, 7)])
    assert [pace.position(step) for step in range(8)] == list(range(8))
    assert (pace.schedule_steps, pace.total_steps) == (7, 7)


@pytest.mark.parametrize("total", [12, 50, 300])
def test_a_new_plan_stretches_or_squeezes_the_rest(total: int) -> None:
    pace = Pace([(0, 100), (10, total)])
    positions = [pace.position(step) for step in range(10, total)]
    assert positions[0] == 10 and positions[-1] == pytest.approx(99)  # the last step of the schedules
    steps = torch.tensor(positions).diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-3, atol=0)  # evenly
    assert pace.position(total) <= 100 == pace.schedule_steps and pace.total_steps == total


def test_plans_follow_each_other() -> None:
    whole = Pace([(0, 100), (10, 50), (20, 80)])
    assert whole.position(20) == Pace([(0, 100), (10, 50)]).position(20)
    assert whole.position(79) == pytest.approx(99)
    assert whole.plans == [(0, 100), (10, 50), (20, 80)]


@pytest.mark.parametrize("make", [schedulers.warmup_cosine, schedulers.one_cycle])
def test_a_schedule_between_its_steps_lies_between_their_rates(make: Callable[..., schedulers.Schedule]) -> None:
    def rates(positions: list[float]) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
        schedule = make(optimizer, total_steps=20, steps_per_epoch=4)["scheduler"]
        found = []
        for position in positions:
            schedule.last_epoch = position - 1
            optimizer.step()
            schedule.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    whole = rates([float(step) for step in range(1, 20)])
    for between, one, other in zip(rates([step + 0.5 for step in range(1, 19)]), whole, whole[1:], strict=False):
        assert min(one, other) - 0.01 <= between <= max(one, other) + 0.12  # over the peak


def test_later_plans_leave_the_past_as_it_was() -> None:
    pace = Pace([(0, 100)])
    before = [pace.position(step) for step in range(50)]
    pace.change(50, 200)
    pace.change(120, 150)
    assert [pace.position(step) for step in range(50)] == before
    positions = [pace.position(step) for step in range(151)]
    assert positions == sorted(positions)
    assert pace.finished_fraction(149) == pytest.approx(0.99)
