"""Mixtures follow the papers: of two images, with labels in proportion, drawn for each image."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional as F

from src.models.classifier import hard, label_captions
from src.models.losses import CrossEntropy
from src.models.mixing import Mixing, random_boxes
from src.train import train

COUNT, SIZE = 64, 16
KINDS = {"mixup": {"mixup": 1.0}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 1.0, "cutmix": 1.0}}


@pytest.fixture
def images() -> Tensor:
    """Make images of one value each: their index."""
    return torch.arange(COUNT, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, SIZE, SIZE + 4)


def own_share(mixed: Tensor) -> Tensor:
    """Return the weight of each image in each pixel of its mixture (B, C, H, W), from images of their indices."""
    number = torch.arange(COUNT, dtype=torch.float32).view(-1, 1, 1, 1)
    return (mixed - number.roll(1, 0)) / (number - number.roll(1, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_mixed_as_the_pixels_are(images: Tensor, kind: str) -> None:
    """A label's share is its image's mean share of the pixels; shares sum to 1 and differ from image to image."""
    torch.manual_seed(0)
    mixed, soft = Mixing(COUNT, **KINDS[kind])(images, torch.arange(COUNT))
    shares = own_share(mixed).mean(dim=(1, 2, 3))
    torch.testing.assert_close(soft.diagonal(), shares, rtol=0, atol=1e-4)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(COUNT))
    torch.testing.assert_close(soft.roll(1, 1).diagonal() + shares, torch.ones(COUNT), rtol=0, atol=1e-4)
    assert len(soft.diagonal().unique()) > COUNT // 2


def test_mixup_mixes_whole_images_and_cutmix_rectangles(images: Tensor) -> None:
    """With both, some images are mixed by one, the others by the other."""
    torch.manual_seed(0)
    rectangular = {}
    for kind, options in KINDS.items():
        weights = Mixing(COUNT, **options).draw_weights(COUNT, SIZE, SIZE + 4)
        rectangular[kind] = ((weights == 0) | (weights == 1)).all(dim=3).all(dim=2).squeeze()
        flat = (weights == weights[:, :, :1, :1]).all(dim=3).all(dim=2).squeeze()
        assert (rectangular[kind] | flat).all()
    assert not rectangular["mixup"].any() and rectangular["cutmix"].all()
    assert 0.3 < rectangular["both"].float().mean() < 0.7


def test_the_rectangles_have_the_share_of_the_area_that_is_drawn() -> None:
    """Where no border clips them; and they lie anywhere."""
    torch.manual_seed(0)
    boxes = random_boxes(torch.full((2000, 1, 1, 1), 0.25), 32, 64)
    whole = ~(boxes[..., 0, :].any(-1) | boxes[..., -1, :].any(-1) | boxes[..., 0].any(-1) | boxes[..., -1].any(-1))
    assert whole.sum() > 300
    areas = boxes[whole.squeeze()].float().mean(dim=(1, 2, 3))
    assert areas.mean() == pytest.approx(0.25, abs=0.01)
    assert boxes.any(dim=0).all(), "any pixel can be in one"


def test_the_share_follows_the_beta_distribution() -> None:
    """For α = 1 it is uniform; for a small α, most mixtures are nearly one of the two images."""
    torch.manual_seed(0)
    uniform, extreme = (Mixing(2, mixup=alpha).draw_weights(4000, 1, 1).flatten() for alpha in (1.0, 0.1))
    assert uniform.mean() == pytest.approx(0.5, abs=0.02) and uniform.var() == pytest.approx(1 / 12, abs=0.01)
    assert ((extreme - 0.5).abs() > 0.45).float().mean() > 0.7


def test_a_probability_leaves_the_other_images_whole(images: Tensor) -> None:
    """With their hard labels."""
    torch.manual_seed(0)
    mixed, soft = Mixing(COUNT, mixup=1.0, probability=0.5)(images, torch.arange(COUNT))
    whole = (mixed == images).flatten(1).all(dim=1)
    assert 0.3 < whole.float().mean() < 0.7
    assert torch.equal(soft[whole], torch.eye(COUNT)[whole])


def test_soft_labels_stay_soft(images: Tensor) -> None:
    """Such as those of a teacher: they are mixed like one-hot ones."""
    torch.manual_seed(0)
    soft = torch.rand(COUNT, 5).softmax(dim=1)
    mixed, labels = Mixing(5, mixup=1.0)(images, soft)
    share = own_share(mixed)[:, 0, 0, 0][:, None]
    torch.testing.assert_close(labels, share * soft + (1 - share) * soft.roll(1, 0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(weight: Any, smoothing: float) -> None:
    """As mixup's authors compute it: λ of the loss of one label and 1 - λ of the other's, class weights included."""
    criterion = CrossEntropy(3, weight, smoothing)
    logits, share = torch.randn(1, 3), 0.3
    soft = share * F.one_hot(torch.tensor([0]), 3) + (1 - share) * F.one_hot(torch.tensor([2]), 3)
    expected = share * criterion(logits, torch.tensor([0])) + (1 - share) * criterion(logits, torch.tensor([2]))
    torch.testing.assert_close(criterion(logits, soft), expected)


def test_a_mixture_counts_as_its_larger_part() -> None:
    """In training accuracy; and its caption names both."""
    soft = torch.tensor([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0]])
    assert hard(soft).tolist() == [0, 1] == hard(torch.tensor([0, 1])).tolist()
    assert label_captions(soft, ["cat", "dog", "fox"]) == ["cat 70%\nfox 30%", "dog 100%"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mixup": -1.0}, "mixup=-1.0"),
        ({}, "one must be above 0"),
        ({"mixup": 1.0, "until": 2.0}, "until=2.0"),
        ({"cutmix": 1.0, "probability": -0.1}, "probability=-0.1"),
        ({"mixup": 1.0, "num_classes": {"digit": 10}}, "single label"),
    ],
)
def test_values_out_of_range_are_named(options: dict[str, Any], named: str) -> None:
    """One sentence with the value."""
    with pytest.raises(ValueError, match=named):
        Mixing(**{"num_classes": 10, **options})


def test_masks_and_series_are_refused(images: Tensor) -> None:
    """Their labels have no proportion."""
    mixing = Mixing(10, mixup=1.0)
    for inputs, targets in ((images, torch.zeros(COUNT, SIZE, SIZE + 4)), (torch.rand(4, 7, 2), torch.zeros(4).long())):
        with pytest.raises(ValueError, match="cannot be mixed"):
            mixing(inputs, targets)


@pytest.mark.parametrize(
    ("epochs", "until", "mixed"), [(4, 0.5, [True] * 4 + [False] * 4), (2, 0.75, [True] * 3 + [False])]
)
def test_the_last_steps_see_whole_images(
    epochs: int, until: float, mixed: list[bool], compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And validation never sees mixtures."""
    seen: list[tuple[int, bool]] = []
    forward = CrossEntropy.forward

    def watched(self: CrossEntropy, logits: Tensor, labels: Tensor) -> Tensor:
        seen.append((len(labels), labels.is_floating_point()))
        return forward(self, logits, labels)

    monkeypatch.setattr(CrossEntropy, "forward", watched)
    small = (
        "data=synthetic",
        "data.train_size=40",
        "data.val_size=8",
        "data.batch_size=16",
        f"trainer.max_epochs={epochs}",
    )
    small += ("callbacks=none", "logger=none", "test=false")
    train(compose("model=mnist_cnn_8k", "model/mixing=mixup_cutmix", f"model.mixing.until={until}", *small))
    assert [soft for count, soft in seen if count == 16] == mixed
    assert not any(soft for count, soft in seen if count == 8)
