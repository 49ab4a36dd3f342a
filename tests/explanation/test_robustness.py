"""Images are changed by the strengths on the curves."""

import pytest
import torch
from torch import nn

from src.explanation.robustness import CHANGES, changed_score, contrast, moved, noise, robustness_section, shift
from src.explanation.subject import score
from tests.explanation.conftest import MakeSubject


def test_nothing_moves_by_nothing_and_a_pixel_by_its_shift() -> None:
    pixels = torch.rand(2, 1, 8, 8)
    still = moved(pixels, torch.zeros(2), torch.zeros(2, 2))
    torch.testing.assert_close(still, pixels)
    right = moved(pixels, torch.zeros(2), torch.tensor([[2 / 8, 0.0], [0.0, -1 / 8]]))  # 2 pixels right; 1 up
    torch.testing.assert_close(right[0, :, :, 2:], pixels[0, :, :, :-2])
    torch.testing.assert_close(right[1, :, :-1], pixels[1, :, 1:])
    assert not right[0, :, :, :2].any() and not right[1, :, -1].any()  # black moves in
    turned = moved(pixels, torch.full((2,), 90.0), torch.zeros(2, 2))
    assert any(torch.allclose(turned, torch.rot90(pixels, k, (2, 3)), atol=1e-5) for k in (1, 3))


def test_each_image_goes_its_own_way_as_far_as_asked() -> None:
    pixels = torch.zeros(50, 1, 33, 33)
    pixels[:, :, 16, 16] = 1.0
    grid = torch.arange(33.0) - 16
    weights = shift(pixels, 100 * 5 / 33, torch.Generator().manual_seed(0))[:, 0]  # 5 pixels
    x, y = (weights.sum(dim) @ grid for dim in (1, 2))
    torch.testing.assert_close((x**2 + y**2).sqrt(), torch.full((50,), 5.0), atol=0.01, rtol=0)
    assert x.min() < -3 and x.max() > 3 and y.min() < -3 and y.max() > 3


def test_noise_and_contrast_have_their_strength() -> None:
    grey = torch.full((4, 1, 32, 32), 0.5)
    assert noise(grey, 10, torch.Generator()).std().item() == pytest.approx(0.1, rel=0.05)
    pixels = torch.rand(4, 1, 8, 8)
    weaker = contrast(pixels, 75, torch.Generator())
    torch.testing.assert_close(weaker.std(dim=(1, 2, 3)), 0.25 * pixels.std(dim=(1, 2, 3)))
    torch.testing.assert_close(weaker.mean(dim=(1, 2, 3)), pixels.mean(dim=(1, 2, 3)))


def test_a_change_of_no_strength_leaves_the_score(make_subject: MakeSubject) -> None:
    subject = make_subject(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    samples = subject.splits["test"]
    plain = score(subject, samples)
    assert [changed_score(subject, samples, name, 0.0) for name in CHANGES] == pytest.approx([plain] * 4, abs=0.006)


class Bright(nn.Module):
    """Class 3 for any image with a bright pixel, in the run's normalisation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.amax(dim=(1, 2, 3))[:, None] > 1.0).float() * torch.tensor([0.0, 0.0, 0.0, 1.0])


def test_the_curve_begins_with_the_score_and_sees_what_is_changed(make_subject: MakeSubject) -> None:
    subject = make_subject(Bright())
    figures = robustness_section(subject).figures
    curves = figures["curves"]
    assert figures["samples"] == 200 and {len(curve) for curve in curves.values()} == {5}
    assert len({curve["0"] for curve in curves.values()}) == 1
    labels = subject.splits["test"].loader.targets
    assert curves["contrast"]["0"] == pytest.approx((labels == 3).double().mean().item())
    assert curves["contrast"]["90"] == pytest.approx((labels == 0).double().mean().item())  # nothing is bright
