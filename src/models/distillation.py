"""Knowledge distillation: learn from the outputs of a teacher net as well as from the labels."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Forward = Callable[..., Mapping[str, Tensor]]  # inputs (B, …) to logits (B, num_classes, …) by the name of an output


class Teacher(Protocol):
    """A trained net that is not part of the task: its weights are neither trained, saved nor counted."""

    def for_student(self, card: Mapping[str, Any]) -> Forward:
        """Return a function that maps the student's inputs to the teacher's logits.

        Args:
            card: the description of the student; see `src.models.task.Task.card`.

        Raises:
            ValueError: the student's inputs or outputs differ from the teacher's.
        """


class Distillation:
    """Add the divergence from a teacher's output to each loss (Hinton et al. 2015, arXiv 1503.02531).

    The loss becomes (1 - α) · loss + α · T² · KL(softmax(teacher / T) ‖ softmax(student / T)), a mean over the batch
    and the pixels of masks. A high temperature T shows which classes the teacher finds similar. The gradients
    of the divergence scale as 1 / T²; the factor T² makes α mean the same at all temperatures.

    Args:
        teacher: the trained net.
        temperature: T.
        alpha: α, the weight of the teacher; 1 ignores the labels.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(self, teacher: Teacher, temperature: float = 4.0, alpha: float = 0.9) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be above 0.")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} is the weight of the teacher and must be in [0, 1].")
        self.teacher, self.temperature, self.alpha = teacher, temperature, alpha
        self._forward: Forward | None = None

    def setup(self, card: Mapping[str, Any]) -> None:
        """Prepare the teacher for the inputs of a student, given the student's description."""
        self._forward = self.teacher.for_student(card)

    def __call__(
        self, losses: Mapping[str, Tensor], outputs: Mapping[str, Tensor], *inputs: Tensor
    ) -> dict[str, Tensor]:
        """Add the teacher's term to the loss () of each output.

        Args:
            losses: the mean loss () of each output.
            outputs: the student's logits (B, num_classes, …).
            inputs: the student's inputs (B, …), augmented and mixed.
        """
        assert self._forward is not None, "call setup() first"
        with torch.no_grad():
            teacher_logits = self._forward(*inputs)
        return {
            name: (1 - self.alpha) * loss + self.alpha * self.divergence(outputs[name], teacher_logits[name])
            for name, loss in losses.items()
        }

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return T² times the mean KL divergence () of logits (B, num_classes, …) from the teacher's."""
        ours, theirs = (F.log_softmax(logits.float() / self.temperature, dim=1) for logits in (student, teacher))
        divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)  # (B, …)
        return self.temperature**2 * divergence.mean()

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "Distillation":
        """Return itself: copies of a task, such as an average of its weights, share the teacher."""
        return self
