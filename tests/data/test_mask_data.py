"""Data with masks in memory, and photographs with mask files: Oxford pets and the user's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from src.data.mask_folder import MaskFolderDataModule
from src.data.masks import MaskDataModule
from src.data.oxford_pets import OxfordPetsDataModule

SERVED: dict[str, Any] = {"channels": 3, "image_size": 16, "batch_size": 2, "ignore_index": 255}


class Given(MaskDataModule):
    """Serves the images and masks of a test."""

    def __init__(self, images: Tensor, masks: Tensor, **options: Any) -> None:
        super().__init__(**{"num_classes": 3, **SERVED, "val_size": 1, **options})
        self.given = images, masks

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return *self.given, *self.given


def test_masks_are_padded_with_what_is_ignored_and_stretched_without_mixing_classes() -> None:
    masks = torch.randint(3, (4, 8, 12)).byte()
    images = (masks * 100)[:, None].expand(-1, 3, -1, -1)
    padded = Given(images, masks)
    padded.setup()
    image, mask = (part[0] for part in padded.data_test.tensors)  # type: ignore[union-attr]
    assert torch.equal(mask[4:12, 2:14], masks[0]) and (mask == 255).sum() == 256 - 96
    assert torch.equal(image[:, 4:12, 2:14], images[0])
    assert padded.class_counts()["test"].tolist() == torch.bincount(masks.flatten()).tolist()
    stretched = Given(images, masks, image_size=6)
    stretched.setup()
    (_, mask) = (part[0] for part in stretched.data_test.tensors)  # type: ignore[union-attr]
    assert mask.shape == (6, 6) and set(mask.unique().tolist()) <= {0, 1, 2}
    assert padded.heads() == {"mask": ["0", "1", "2"]}


def test_values_that_are_no_class_are_refused() -> None:
    masks = torch.zeros(2, 16, 16).byte()
    masks[0, 0, :2] = torch.tensor([255, 3])
    with pytest.raises(ValueError, match="the value 3, but those of 3 classes run from 0 to 2, and 255 is ignored"):
        Given(torch.zeros(2, 3, 16, 16).byte(), masks).setup()
    for ignore_index in (2, 256):
        with pytest.raises(ValueError, match=f"ignore_index={ignore_index} must be from num_classes=3 to 255"):
            Given(torch.zeros(2, 3, 16, 16).byte(), masks, ignore_index=ignore_index)


def picture(height: int, width: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def write_pets(folder: Path, train: int = 6, test: int = 3) -> dict[str, np.ndarray]:
    """Write files as in the archives of the Oxford-IIIT Pet data set; returns the trimaps by name."""
    for name in ("images", "annotations/trimaps"):
        (folder / name).mkdir(parents=True)
    trimaps = {}
    for split, count in {"trainval": train, "test": test}.items():
        names = [f"Abyssinian_{split}_{number}" for number in range(count)]
        lines = [f"{name} 1 1 1\n" for name in names]
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))
        for number, name in enumerate(names):
            height, width = 20 + number, 30 - number
            picture(height, width, number).save(folder / "images" / f"{name}.jpg")
            trimaps[name] = np.random.default_rng(number).integers(1, 4, (height, width), dtype=np.uint8)
            Image.fromarray(trimaps[name]).save(folder / "annotations" / "trimaps" / f"{name}.png")
    return trimaps


def pets(folder: Path, **changes: Any) -> OxfordPetsDataModule:
    options = {"num_classes": 3, "val_size": 2, "data_dir": str(folder), "download": False, **SERVED, **changes}
    module = OxfordPetsDataModule(**options)
    module.prepare_data()
    module.setup()
    return module


def test_pets_are_read_from_files_as_the_archives_hold_them(tmp_path: Path) -> None:
    trimaps = write_pets(tmp_path / "oxford-iiit-pet")
    module = pets(tmp_path, image_size=32)
    assert [len(split) for split in module.splits().values()] == [4, 2, 3]
    mask = module.data_test.tensors[1][1]  # type: ignore[union-attr]
    assert (mask == 255).sum() == 32 * 32 - 21 * 29
    assert torch.equal(mask[5:26, 1:30], torch.from_numpy(trimaps["Abyssinian_test_1"] - 1))
    assert module.heads() == {"mask": ["pet", "background", "outline"]}


def test_pets_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"OxfordIIITPet is not in .*: images is missing"):
        pets(tmp_path)
    folder = tmp_path / "oxford-iiit-pet"
    write_pets(folder)
    file = folder / "annotations" / "trimaps" / "Abyssinian_test_0.png"
    Image.new("L", (3, 4), 1).save(file)
    with pytest.raises(ValueError, match=r"Abyssinian_test_0.png is 3×4, but its image is 30×20"):
        pets(tmp_path)
    file.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"Abyssinian_test_0.png cannot be read: it must be one of PNG"):
        pets(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"The mask .*Abyssinian_test_0.png is missing"):
        pets(tmp_path)


def write_folder(root: Path, masks: list[Image.Image], suffix: str = "png") -> None:
    """Write images, and the masks that belong to them."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number, mask in enumerate(masks):
        picture(mask.height, mask.width, number).save(root / "images" / f"{number}.jpg")
        mask.save(root / "masks" / f"{number}.{suffix}")


def grey(*values: int, count: int = 4) -> list[Image.Image]:
    """Make masks of given grey levels and several sizes."""
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.choice(np.array(values, np.uint8), (10 + n, 16))) for n in range(count)]


def folder_data(root: Path, **changes: Any) -> MaskFolderDataModule:
    options = {"classes": ["a", "b"], "num_classes": 2, "val_fraction": 0.3, "test_fraction": 0.3, **SERVED, **changes}
    module = MaskFolderDataModule(folder=str(root), **options)
    module.setup()
    return module


def classes_of(module: MaskFolderDataModule) -> set[int]:
    return {int(value) for split in module.splits().values() for value in split.tensors[1].unique()}


def test_a_folder_is_split_by_its_seed_or_as_its_folders_say(tmp_path: Path) -> None:
    write_folder(tmp_path / "flat", grey(0, 1, count=10))
    module = folder_data(tmp_path / "flat")
    assert [len(split) for split in module.splits().values()] == [5, 2, 3]
    assert folder_data(tmp_path / "flat").checksums() == module.checksums()
    assert folder_data(tmp_path / "flat", split_seed=1).checksums() != module.checksums()
    for split, count in {"train": 4, "val": 1, "test": 2}.items():
        write_folder(tmp_path / "split" / split, grey(0, 1, count=count))
    module = folder_data(tmp_path / "split")
    assert [len(split) for split in module.splits().values()] == [4, 1, 2]
    mask = np.asarray(Image.open(tmp_path / "split" / "val" / "masks" / "0.png"))
    assert torch.equal(module.data_val.tensors[1][0, 3:13], torch.from_numpy(mask.copy()))  # type: ignore[union-attr]


def test_classes_are_grey_levels_palette_indices_or_colours(tmp_path: Path) -> None:
    write_folder(tmp_path / "levels", grey(0, 255, 7))
    levels = folder_data(tmp_path / "levels", values=[255, 0], ignore=7)
    assert classes_of(levels) == {0, 1, 255} and levels.heads() == {"mask": ["a", "b"]}
    palette = [Image.fromarray(np.asarray(mask)).convert("P") for mask in grey(0, 1)]
    for mask in palette:
        mask.putpalette([255, 0, 0, 0, 255, 0])
    write_folder(tmp_path / "palette", palette)
    write_folder(tmp_path / "indices", grey(0, 1))
    assert folder_data(tmp_path / "palette").checksums() == folder_data(tmp_path / "indices").checksums()
    colours = np.array([[0, 0, 255], [128, 64, 128]], np.uint8)
    write_folder(tmp_path / "colours", [Image.fromarray(colours[np.asarray(mask)]) for mask in grey(0, 1)])
    named = folder_data(tmp_path / "colours", values=[[0, 0, 255], [128, 64, 128]])
    assert named.checksums() == folder_data(tmp_path / "indices").checksums()


@pytest.mark.parametrize(
    ("values", "changes", "message"),
    [
        ((0, 1, 9), {}, r"\d.png holds 9 at row \d+, column \d+, which is not the value of a class"),
        ((0, 1), {"values": [0, [1, 2, 3]]}, "must be all grey levels, or all colours"),
        ((0, 1), {"values": [0, 0]}, "must have a different value for each class"),
        ((0, 1), {"values": [[0, 0, 0], [1, 1, 1]]}, "has no colours"),
        ((0, 1), {"values": [0, 256]}, "256 must be a grey level from 0 to 255"),
        ((0, 1), {"classes": ["a", "b", "c"]}, "num_classes=2, but classes names 3"),
        ((0, 1), {"classes": ["a", "a"]}, "one for each of the different classes"),
        ((0, 1), {"values": [0, 1, 2]}, "one for each of the different classes"),
        ((0, 1), {"val_fraction": 1}, "val_fraction=1 must be between 0 and 1"),
    ],
    ids=str,
)
def test_masks_that_do_not_fit_their_classes_are_refused(
    values: tuple[int, ...], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_folder(tmp_path / "data", grey(*values))
    with pytest.raises(ValueError, match=message):
        folder_data(tmp_path / "data", **changes)


def test_colours_without_classes_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", [mask.convert("RGB") for mask in grey(0, 9)])
    with pytest.raises(ValueError, match=r"\d.png is in colour: give each class one"):
        folder_data(tmp_path / "data")
    with pytest.raises(ValueError, match=r"\d.png holds \[9, 9, 9\] at row"):
        folder_data(tmp_path / "data", values=[[0, 0, 0], [1, 1, 1]])


def test_a_folder_that_lacks_something_is_told_what(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        folder_data(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"images does not exist or is empty"):
        folder_data(tmp_path)
    write_folder(tmp_path / "data", grey(0, 1))
    (tmp_path / "data" / "masks" / "2.png").rename(tmp_path / "data" / "masks" / "two.png")
    with pytest.raises(FileNotFoundError, match=r"1 of 4 files in .*images have no counterpart .*masks: 2\.$"):
        folder_data(tmp_path / "data")
    (tmp_path / "data" / "images" / "2.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 4 files in .*masks have no counterpart .*images: two\.$"):
        folder_data(tmp_path / "data")
    (tmp_path / "data" / "masks" / "two.png").unlink()
    Image.new("L", (3, 3)).save(tmp_path / "data" / "masks" / "1.png")
    with pytest.raises(ValueError, match=r"1.png is 3×3, but its image is 16×11"):
        folder_data(tmp_path / "data")
    Image.new("L", (16, 11)).save(tmp_path / "data" / "masks" / "1.png", format="JPEG")
    with pytest.raises(ValueError, match="must be one of PNG, TIFF, BMP, GIF"):
        folder_data(tmp_path / "data")
    (tmp_path / "split" / "test").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds test: it needs train and test, or neither"):
        folder_data(tmp_path / "split")
