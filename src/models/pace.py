"""Fit learning-rate schedules to a run whose number of steps changes during training."""

from collections.abc import Iterable


class Pace:
    """Map the steps of a run to the steps of its schedules, which are built for the first plan.

    Each new plan stretches or compresses the rest of the schedules over the remaining steps: they continue from their
    current position and end at the last step.

    Args:
        plans: pairs (step, total): from `step` on, the whole run is planned to have `total` steps. The first step is 0.
    """

    def __init__(self, plans: Iterable[tuple[int, int]]) -> None:
        self.plans: list[tuple[int, int]] = []
        self._pieces: list[tuple[int, float, float]] = []  # (first step, position at it, rate)
        for step, total in plans:
            self.change(step, total)

    @property
    def total_steps(self) -> int:
        """The number of steps of the run, as currently planned."""
        return self.plans[-1][1]

    @property
    def schedule_steps(self) -> int:
        """The number of steps that the schedules are built for."""
        return self.plans[0][1]

    def change(self, step: int, total: int) -> None:
        """Plan `total` steps for the whole run, of which `step` are done."""
        position = self.position(step) if self.plans else 0.0
        self.plans.append((step, total))
        remaining = total - 1 - step  # until the last step, at which the schedules end
        rate = (self.schedule_steps - 1 - position) / remaining if remaining > 0 else 0.0
        self._pieces.append((step, position, rate))

    def position(self, step: int) -> float:
        """Return the step of the schedules after `step` steps of the run; later plans do not change the past."""
        start, position, rate = next(piece for piece in reversed(self._pieces) if piece[0] <= step)
        return min(position + (step - start) * rate, self.schedule_steps)

    def finished_fraction(self, step: int) -> float:
        """Return the fraction of the schedules that is completed after `step` steps of the run."""
        return self.position(step) / self.schedule_steps
