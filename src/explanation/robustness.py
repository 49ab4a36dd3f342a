"""Robustness: the score as test images are shifted and rotated, and as noise grows or contrast is lost."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from src.data.augmentation import affine
from src.explanation.other_data import denormalised, normalised
from src.explanation.section import LeftOut, Section, curves
from src.explanation.subject import CLASSES, Samples, Subject, score
from src.models.task import Batch

PART = 10  # only a tenth of the samples is used: each is predicted 16 times
MIN_SAMPLES = 500  # but no fewer than this
Change = Callable[[Tensor, float, torch.Generator], Tensor]  # of pixels (B, C, H, W) in [0, 1], by a strength


def moved(pixels: Tensor, angles: Tensor, shifts: Tensor) -> Tensor:
    """Rotate pixels (B, C, H, W) by degrees (B,) and shift them by fractions of the side (B, 2); outside is black."""
    return affine(pixels, torch.deg2rad(angles), torch.ones(len(pixels)), -shifts[:, 0], -shifts[:, 1])


def shift(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shift by a percentage of the side, each image in a random direction."""
    directions = 2 * math.pi * torch.rand(len(pixels), generator=generator)
    shifts = strength / 100 * torch.stack([directions.cos(), directions.sin()], 1)
    return moved(pixels, torch.zeros(len(pixels)), shifts)


def rotation(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Rotate by degrees, each image in a random direction."""
    sides = 1 - 2 * torch.randint(2, (len(pixels),), generator=generator)
    return moved(pixels, strength * sides, torch.zeros(len(pixels), 2))


def noise(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise with a standard deviation in percent of the range."""
    return (pixels + strength / 100 * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)


def contrast(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Move pixels towards their image's mean, so that a percentage of the contrast is lost."""
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (1 - strength / 100) * (pixels - mean)


CHANGES: dict[str, tuple[Change, str, tuple[float, ...]]] = {  # function, label of its strength, and strengths
    "shift": (shift, "shift, % of the side", (4, 8, 12, 16)),
    "rotation": (rotation, "rotation, degrees", (10, 20, 30, 45)),
    "noise": (noise, "noise, % of the range", (5, 10, 20, 30)),
    "contrast": (contrast, "contrast lost, %", (25, 50, 75, 90)),
}
# changes that keep the targets valid, by kind of output: masks do not move with the image
FITTING = {CLASSES: tuple(CHANGES), "mask": ("noise", "contrast")}


def robustness_section(subject: Subject) -> Section:
    """Draw the score by the strength of each change."""
    subject.check_images()
    kinds = {str(card["kind"]) for card in subject.cards.values()}
    names = [name for name in CHANGES if all(name in FITTING.get(kind, ()) for kind in kinds)]
    if not names:
        raise LeftOut("The targets depend on the images, so that changed images would need other targets.")
    samples = subject.splits["test"]
    samples = samples.first(max(len(samples) // PART, MIN_SAMPLES))
    name, plain = subject.task.score, score(subject, samples)
    figures, parts = {}, []
    for key in names:
        _, label, strengths = CHANGES[key]
        curve = [(0.0, plain), *((one, changed_score(subject, samples, key, one)) for one in strengths)]
        figures[key] = {f"{strength:g}": value for strength, value in curve}
        parts.append(curves(key.capitalize(), label, name, {key: curve}))
    note = (
        f"The score, {name}, of {samples.described} test images, under growing corruption: shifted or rotated in a "
        "random direction, with black outside; with Gaussian noise; with less contrast."
    )
    return Section("Robustness", note, {"score": name, "samples": len(samples), "curves": figures}, parts)


def changed_score(subject: Subject, samples: Samples, name: str, strength: float) -> float:
    """Return the score on samples with changed images, using the same random numbers each time."""
    card = subject.input_card
    generator = torch.Generator().manual_seed(0)

    def changed() -> Iterator[Batch]:
        for images, *rest in samples:
            pixels = CHANGES[name][0](denormalised(images, card), strength, generator)
            yield [normalised(pixels, card), *rest]

    return score(subject, changed())
