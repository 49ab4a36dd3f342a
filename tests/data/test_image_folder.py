"""A user's own photographs: sorted in folders, of any size and mode, some of them damaged."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.data.image_folder import ImageFolderDataModule, random_view


def fill(folder: Path, count: int, classes: tuple[str, ...] = ("cats", "dogs")) -> None:
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            height, width = generator.integers(20, 60, 2)
            picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
            mode, suffix = [("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("P", "gif")][number % 4]
            picture.convert(mode).save(folder / name / f"{number}.{suffix}")


def module(folder: Path, **options: object) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(folder), **{"num_classes": 2, "image_size": 24, "batch_size": 4, **options})


@pytest.mark.parametrize("channels", [1, 3])
def test_three_folders_are_the_three_splits(tmp_path: Path, channels: int) -> None:
    for split, count in {"train": 8, "val": 3, "test": 2}.items():
        fill(tmp_path / split, count)
    data = module(tmp_path, channels=channels)
    data.setup()
    assert [len(part) for part in (data.data_train, data.data_val, data.data_test)] == [16, 6, 4]
    assert data.class_names == ["cats", "dogs"]
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (4, channels, 24, 24) and images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert {label for _, labels in data.test_dataloader() for label in labels.tolist()} == {0, 1}


def test_one_folder_is_split_by_a_seed_without_overlap(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    parts = []
    for seed in (0, 0, 1):
        data = module(tmp_path, split_seed=seed, val_fraction=0.25, test_fraction=0.2)
        data.setup()
        parts.append([[path for path, _ in part.samples] for part in (data.data_train, data.data_val, data.data_test)])
    assert [len(part) for part in parts[0]] == [24, 8, 8]
    assert len({path for part in parts[0] for path in part}) == 40
    assert parts[0] == parts[1] != parts[2]


def test_evaluation_images_are_not_augmented(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    data = module(tmp_path, augmentation=random_view(24, min_scale=0.35))
    data.setup()
    same, other = (0, 7), (0, 8)  # index and seed
    assert torch.equal(data.data_test[same][0], data.data_test[other][0])
    assert torch.equal(data.data_train[same][0], data.data_train[same][0])
    assert not torch.equal(data.data_train[same][0], data.data_train[other][0])


def test_unreadable_images_are_refused_or_left_out_with_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, 10)
    whole = (tmp_path / "cats" / "0.jpg").read_bytes()
    (tmp_path / "cats" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dogs" / "text").write_text("not an image")
    with pytest.raises(ValueError, match="2 of 22 files cannot be read") as caught:
        module(tmp_path).setup()
    assert all(word in str(caught.value) for word in ("truncated.jpg", "dogs/text", "data.skip_unreadable=true"))
    with caplog.at_level(logging.WARNING):
        data = module(tmp_path, skip_unreadable=True)
        data.setup()
    assert sum(len(part) for part in (data.data_train, data.data_val, data.data_test)) == 20
    assert "truncated.jpg" in caplog.text and "dogs/text" in caplog.text


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        module(tmp_path / "none").setup()
    fill(tmp_path / "a", 4)
    with pytest.raises(ValueError, match=r"holds 2 folders of classes \(cats, dogs\), but data.num_classes=3"):
        module(tmp_path / "a", num_classes=3).setup()
    with pytest.raises(ValueError, match="batch_size=100 is larger than"):
        module(tmp_path / "a", batch_size=100).setup()
    fill(tmp_path / "b" / "train", 4)
    with pytest.raises(ValueError, match="it needs train and test, or neither"):
        module(tmp_path / "b").setup()
    fill(tmp_path / "b" / "test", 4, classes=("cats", "cows"))
    with pytest.raises(ValueError, match="cows"):
        module(tmp_path / "b").setup()
    (tmp_path / "c" / "cats").mkdir(parents=True)
    (tmp_path / "c" / "dogs").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        module(tmp_path / "c").setup()
