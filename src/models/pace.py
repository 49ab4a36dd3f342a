"""Where schedules are in a run whose number of steps changes on the way."""

from collections.abc import Iterable


class Pace:
    """Map the steps of a run to the steps of its schedules, which are made for the first plan.

    With each new plan, the rest of the schedules is stretched or squeezed over the steps that are left: they go on from
    where they are, and come to their end at the last step.

    Args:
        plans: pairs (step, total): the number of steps of the whole run as it was planned at a step, the first at 0.
    """

    def __init__(self, plans: Iterable[tuple[int, int]]) -> None:
        self.plans: list[tuple[int, int]] = []
        self._pieces: list[tuple[int, float, float]] = []  # from a step on: the position there, and the rate
        for step, total in plans:
            self.change(step, total)

    @property
    def total_steps(self) -> int:
        """The number of steps of the run, as it is planned now."""
        return self.plans[-1][1]

    @property
    def schedule_steps(self) -> int:
        """The number of steps that schedules are made for."""
        return self.plans[0][1]

    def change(self, step: int, total: int) -> None:
        """Plan `total` steps for the whole run, `step` of which are made."""
        position = self.position(step) if self.plans else 0.0
        self.plans.append((step, total))
        left = total - 1 - step  # until the last step, which is the end of the schedules
        self._pieces.append((step, position, (self.schedule_steps - 1 - position) / left if left > 0 else 0.0))

    def position(self, step: int) -> float:
        """Return the step of the schedules after `step` steps of the run; later plans do not change the past."""
        start, position, rate = next(piece for piece in reversed(self._pieces) if piece[0] <= step)
        return min(position + (step - start) * rate, self.schedule_steps)

    def finished_fraction(self, step: int) -> float:
        """Return the fraction of the schedules that is over after `step` steps of the run."""
        return self.position(step) / self.schedule_steps
