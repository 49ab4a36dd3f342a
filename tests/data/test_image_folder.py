"""A user's own photographs: sorted in folders, of any size and mode, some of them damaged."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from torchvision.transforms import v2

from src.data.augmentation import BatchAugmentation
from src.data.class_folders import count_classes
from src.data.image_folder import IMAGENET_MEAN, IMAGENET_STD, ImageFolderDataModule, random_view
from src.data.photographs import augmented, centre
from src.predictor import read_image
from src.train import train
from tests.conftest import TINY_RUN
from tests.data.conftest import write_photographs


def module(folder: Path, **options: object) -> ImageFolderDataModule:
    fractions = {"val_fraction": 0.1, "test_fraction": 0.1}
    small = {"num_classes": 2, "channels": 3, "image_size": 24, "batch_size": 4}
    return ImageFolderDataModule(str(folder), **{**small, **fractions, **options})


@pytest.mark.parametrize("channels", [1, 3])
def test_three_folders_are_the_three_splits(tmp_path: Path, channels: int) -> None:
    for split, count in {"train": 8, "val": 3, "test": 2}.items():
        write_photographs(tmp_path / split, count)
    data = module(tmp_path, channels=channels)
    data.setup()
    assert [len(part) for part in (data.data_train, data.data_val, data.data_test)] == [16, 6, 4]
    assert data.class_names == ["cats", "dogs"]
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (4, channels, 24, 24) and images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert {label for _, labels in data.test_dataloader() for label in labels.tolist()} == {0, 1}


def test_one_folder_is_split_by_a_seed_without_overlap(tmp_path: Path) -> None:
    write_photographs(tmp_path, 20)
    parts = []
    for seed in (0, 0, 1):
        data = module(tmp_path, split_seed=seed, val_fraction=0.25, test_fraction=0.2)
        data.setup()
        parts.append([[path for path, _ in part.samples] for part in (data.data_train, data.data_val, data.data_test)])
    assert [len(part) for part in parts[0]] == [24, 8, 8]
    assert len({path for part in parts[0] for path in part}) == 40
    assert parts[0] == parts[1] != parts[2]


def test_evaluation_images_are_not_augmented(tmp_path: Path) -> None:
    write_photographs(tmp_path, 10)
    data = module(tmp_path, augmentation=random_view(24, min_scale=0.35))
    data.setup()
    same, other = (0, 7), (0, 8)  # index and seed
    assert torch.equal(data.data_test[same][0], data.data_test[other][0])
    assert torch.equal(data.data_train[same][0], data.data_train[same][0])
    assert not torch.equal(data.data_train[same][0], data.data_train[other][0])


@pytest.mark.parametrize("min_scale", [0.35, 1.0])
def test_a_photograph_is_augmented_by_its_own_seed_however_it_is_read(tmp_path: Path, min_scale: float) -> None:
    write_photographs(tmp_path, 10)
    augmentation = BatchAugmentation(min_scale=min_scale, horizontal_flip=0.5, degrees=15, erasing=0.5)
    batches = []
    for workers in (0, 2):
        data = module(tmp_path, augmentation=augmentation, num_workers=workers, seed=3)
        data.setup()
        batches.append([images for images, _ in data.train_dataloader()])
    assert len(batches[0]) >= 3
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*batches, strict=True))


def test_a_random_part_is_cut_from_the_whole_photograph(tmp_path: Path) -> None:
    """The corners, which the centre leaves out, are seen, and details that are lost where the whole is resized."""
    photo = np.indices((240, 240)).sum(0).astype(np.uint8) // 4 % 2 * 100  # stripes, finer than a pixel of the result
    photo[:12, :12] = 255
    image = Image.fromarray(photo)
    whole = centre(image, 0, 24).float()
    views = [augmented(image, seed, 24, BatchAugmentation(min_scale=0.02)).float() for seed in range(400)]
    assert max(view[0, 0, 0] for view in views) > 200 > 100 > whole[0, 0, 0]
    assert max(view.std() for view in views if view.max() <= 100) > 5 * whole.std()


def test_transforms_of_torchvision_are_augmentations_of_photographs_too(tmp_path: Path) -> None:
    write_photographs(tmp_path, 10)
    data = module(tmp_path, augmentation=v2.Compose([v2.RandomResizedCrop(24), v2.ColorJitter(0.5)]))
    data.setup()
    state = torch.get_rng_state()
    assert torch.equal(data.data_train[0, 7][0], data.data_train[0, 7][0])
    assert not torch.equal(data.data_train[0, 7][0], data.data_train[0, 8][0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("last", [[], [v2.ToImage()], [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]], ids=len)
def test_transforms_may_end_in_a_tensor(last: list[v2.Transform], tmp_path: Path) -> None:
    write_photographs(tmp_path, 10)
    data = module(tmp_path, augmentation=v2.Compose([v2.Resize((24, 24)), *last]))
    data.setup()
    image, _ = data.data_train[0, 7]
    path, _ = data.data_train.samples[0]
    expected = np.array(read_image(path, "RGB").resize((24, 24), Image.Resampling.BILINEAR)) / 255  # (H, W, C)
    pixels = image.permute(1, 2, 0).numpy() * IMAGENET_STD + IMAGENET_MEAN
    assert abs(pixels - expected).max() < 0.01


def test_what_file_managers_leave_behind_is_no_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_photographs(tmp_path, 10)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.jpg", ".thumbnails/0.jpg", "more/thumbs.db"):
        path = tmp_path / "cats" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    (tmp_path / ".git").mkdir()
    (tmp_path / "Thumbs.db").write_bytes(b"no image")
    data = module(tmp_path)
    data.setup()
    assert data.class_names == ["cats", "dogs"] and "left out" not in caplog.text
    assert sum(len(part) for part in (data.data_train, data.data_val, data.data_test)) == 20


def test_the_classes_of_a_folder_are_counted(tmp_path: Path) -> None:
    assert count_classes(str(tmp_path / "none"), 10) == count_classes(str(tmp_path), 10) == 10
    write_photographs(tmp_path / "flat", 2, classes=("a", "b", "c", ".hidden"))
    for split in ("train", "test"):
        write_photographs(tmp_path / "split" / split, 8, classes=("a", "b"))
    assert count_classes(str(tmp_path / "flat"), 10) == 3
    assert count_classes(str(tmp_path / "split"), 10) == 2
    data = module(tmp_path / "split", num_classes=None)
    data.setup()
    assert data.num_classes == 2


def test_the_net_has_as_many_outputs_as_the_folder_has_classes(
    tmp_path: Path, compose: Callable[..., DictConfig]
) -> None:
    write_photographs(tmp_path / "photos", 10, classes=("a", "b", "c"))
    own = ["model=simple_mlp", "data=image_folder", f"data.folder={tmp_path}/photos", "data.image_size=28"]
    cfg = compose(*own, *TINY_RUN[:-2], "data.batch_size=4", "data.num_workers=0")
    figures, objects = train(cfg)
    assert objects["model"].net.head.out_features == 3 and 0 <= figures["test/acc"] <= 1
    with pytest.raises(ValueError, match=r"holds 3 folders of classes \(a, b, c\), but data.num_classes=4"):
        train(compose(*own, *TINY_RUN[:-2], "data.batch_size=4", "data.num_classes=4"))


def test_unbalanced_absent_and_empty_classes_are_said_in_a_line_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_counts = {"ant": 70, "bee": 70, "cow": 4, "dog": 1, "eel": 0}
    write_photographs(tmp_path / "train", train_counts)
    write_photographs(tmp_path / "val", dict.fromkeys(train_counts, 2) | {"eel": 0})
    write_photographs(tmp_path / "test", {"ant": 2, "bee": 2, "cow": 2, "dog": 0, "eel": 0})
    data = module(tmp_path, num_classes=None)
    data.setup()
    assert {split: counts.tolist() for split, counts in data.class_counts().items()} == {
        "train": [70, 70, 4, 1, 0],
        "val": [2, 2, 2, 2, 0],
        "test": [2, 2, 2, 0, 0],
    }
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 3
    assert "No images of dog in test: they are not evaluated there." in lines
    assert "No images of eel in train, val and test: they cannot be learnt." in lines
    assert "from 1 of dog to 70 of bee: model.criterion.weight=balanced" in lines[-1]
    data.setup()  # as for the test after training
    assert len(caplog.records) == 3


def test_unreadable_images_are_refused_or_left_out_with_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_photographs(tmp_path, 10)
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
    write_photographs(tmp_path / "a", 4)
    with pytest.raises(ValueError, match=r"holds 2 folders of classes \(cats, dogs\), but data.num_classes=3"):
        module(tmp_path / "a", num_classes=3).setup()
    with pytest.raises(ValueError, match="batch_size=100 is larger than"):
        module(tmp_path / "a", batch_size=100).setup()
    write_photographs(tmp_path / "b" / "train", 4)
    with pytest.raises(ValueError, match="it needs train and test, or neither"):
        module(tmp_path / "b").setup()
    write_photographs(tmp_path / "b" / "test", 4, classes=("cats", "cows"))
    with pytest.raises(ValueError, match="cows"):
        module(tmp_path / "b").setup()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no folders of classes"):
        module(tmp_path / "empty").setup()
    (tmp_path / "c" / "cats").mkdir(parents=True)
    (tmp_path / "c" / "dogs").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        module(tmp_path / "c").setup()


def test_changed_photographs_of_equal_sizes_are_other_data(tmp_path: Path) -> None:
    def checksums() -> dict[str, str]:
        data = module(tmp_path)
        data.setup()
        return data.checksums()

    for kind, place in (("cats", 0), ("dogs", 1)):
        (tmp_path / kind).mkdir()
        for number in range(6):
            pixels = np.full((24, 24, 3), 100 * place + number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.bmp")  # as large whatever it shows
    before = checksums()
    assert checksums() == before
    photo = tmp_path / "dogs" / "3.bmp"
    size = photo.stat().st_size
    Image.fromarray(np.full((24, 24, 3), 200, dtype=np.uint8)).save(photo)
    assert photo.stat().st_size == size
    assert {name for name, digest in checksums().items() if digest != before[name]} == {"contents"}
