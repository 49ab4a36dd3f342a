"""Distillation follows the paper: its loss and its gradient are computed by hand."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from src.data.in_memory import InMemoryDataModule
from src.models.distillation import Distillation
from src.models.mixing import Mixing

B, CLASSES = 6, 5


class Known:
    """A teacher with given logits, which records its inputs."""

    def __init__(self, **logits: Tensor) -> None:
        self.logits, self.asked, self.card = logits, [], {}

    def for_student(self, card: Mapping[str, Any]) -> Callable[..., Mapping[str, Tensor]]:
        self.card = card
        return self

    def __call__(self, *inputs: Tensor) -> Mapping[str, Tensor]:
        self.asked.append(inputs)
        assert not torch.is_grad_enabled()
        return self.logits


def distil(student: Tensor, teacher: Tensor, loss: Tensor, **options: float) -> Tensor:
    """The loss of one output."""
    distillation = Distillation(Known(x=teacher), **options)
    distillation.setup({})
    return distillation({"x": loss}, {"x": student}, torch.zeros(len(student)))["x"]


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (4.0, 0.9), (0.5, 1.0), (2.0, 0.0)])
def test_loss_and_gradient_are_those_of_the_formula(temperature: float, alpha: float) -> None:
    """d/dz of the teacher's part is α · T · (softmax(z / T) - softmax(v / T)) / B, that of the labels' as ever."""
    student, teacher = torch.randn(B, CLASSES, requires_grad=True), torch.randn(B, CLASSES)
    labels = torch.arange(B) % CLASSES
    loss = distil(student, teacher, F.cross_entropy(student, labels), temperature=temperature, alpha=alpha)
    loss.backward()
    with torch.no_grad():
        soft, taught = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
        divergence = (taught * (taught.log() - soft.log())).sum() / B
        hard = -student.log_softmax(1)[torch.arange(B), labels].mean()
        expected = (student.softmax(1) - F.one_hot(labels, CLASSES)) / B * (1 - alpha)
        expected += alpha * temperature * (soft - taught) / B
    torch.testing.assert_close(loss, (1 - alpha) * hard + alpha * temperature**2 * divergence)
    torch.testing.assert_close(student.grad, expected)


def test_at_a_high_temperature_the_gradient_is_the_difference_of_the_logits() -> None:
    """Equation 4 of the paper, times T²: (z - v) / N for logits with a mean of 0, whatever the temperature."""
    student = torch.randn(B, CLASSES, requires_grad=True)
    teacher = torch.randn(B, CLASSES)
    distil(student, teacher, torch.zeros(()), temperature=1000.0, alpha=1.0).backward()
    centred = [logits.detach() - logits.detach().mean(1, keepdim=True) for logits in (student, teacher)]
    torch.testing.assert_close(student.grad, (centred[0] - centred[1]) / CLASSES / B, rtol=0.02, atol=1e-4)


def test_a_student_like_its_teacher_learns_nothing_from_it() -> None:
    student = torch.randn(B, CLASSES, requires_grad=True)
    loss = distil(student, student.detach() + 3, torch.zeros(()), alpha=1.0)  # a constant makes no difference
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5) and student.grad.abs().max() < 1e-6


def test_every_pixel_of_a_mask_is_taught() -> None:
    student, teacher = torch.randn(2, CLASSES, 3, 4), torch.randn(2, CLASSES, 3, 4)
    loss = distil(student, teacher, torch.zeros(()), alpha=1.0)
    flat = [logits.permute(0, 2, 3, 1).reshape(-1, CLASSES) for logits in (student, teacher)]
    torch.testing.assert_close(loss, distil(*flat, torch.zeros(()), alpha=1.0))


def test_bfloat16_logits_are_compared_in_float32() -> None:
    student, teacher = torch.randn(B, CLASSES).bfloat16(), torch.randn(B, CLASSES).bfloat16()
    loss = distil(student, teacher, torch.zeros(()))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, distil(student.float(), teacher.float(), torch.zeros(())))


@pytest.mark.parametrize(
    ("options", "named"), [({"temperature": 0.0}, "temperature=0.0"), ({"alpha": 1.5}, "alpha=1.5")]
)
def test_values_out_of_range_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Distillation(Known(), **options)


def test_training_asks_the_teacher_of_its_own_inputs_and_evaluation_does_not(
    trainer: Callable[..., L.Trainer],
    model: L.LightningModule,
    data: InMemoryDataModule,
) -> None:
    teacher = Known(**{"class": torch.zeros(8, 4)})
    model.distillation = Distillation(teacher)
    model.mixing = Mixing(4, mixup=1.0, cutmix=1.0)
    read: list[Tensor] = []
    model.net.register_forward_pre_hook(lambda net, inputs: read.append(inputs[0]) if net.training else None)
    trainer(max_epochs=2).fit(model, data)
    assert [inputs.shape for (inputs,) in teacher.asked] == [(8, 1, 8, 8)] * 8
    assert all(map(torch.equal, (inputs for (inputs,) in teacher.asked), read)), "as augmented and mixed as the student"
    assert teacher.card["outputs"]["class"]["names"] == ["0", "1", "2", "3"] and teacher.card["image_size"] == 8


def test_copies_of_a_task_share_the_teacher(model: L.LightningModule) -> None:
    """An exported one cannot be copied, and the average of the weights is a copy."""
    model.distillation = Distillation(Known())
    assert copy.deepcopy(model).distillation is model.distillation
