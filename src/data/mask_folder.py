"""Your own images and masks, from a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.data.class_folders import check_splits, split_folders, visible_files
from src.data.masks import MaskDataModule, read_mask, stack_pairs
from src.data.splits import Fold, check_fractions, split_missing
from src.predictor import read_image

Value = int | Sequence[int]  # a grey level or palette index, or an RGB colour
LISTED = 5  # files named in a message


class MaskFolderDataModule(MaskDataModule):
    """Images in `<folder>/images/` and masks of the same names in `<folder>/masks/`, or both in train, val and test.

    Masks are PNG, TIFF, BMP or GIF files, as large as their images. Images of any size are resized and kept in memory.

    Args:
        folder: folder of the images and masks, with or without subfolders `train`, `test` and optionally `val`.
        classes: names of the classes.
        values: grey level, palette index or RGB colour of each class; None: a pixel holds the number of its class.
        val_fraction: fraction of the training images for validation, if there is no folder `val`.
        fold: validate on this one of `folds` equal parts of the training images instead.
        folds: number of parts for cross-validation.
        test_fraction: fraction of all images for the test, if there is no folder `test`.
        ignore: value or colour of the pixels to ignore; None: `ignore_index` in masks without colours.
        options: see `MaskDataModule`.

    Raises:
        FileNotFoundError: the folder does not exist or has no images, or a mask or an image is missing.
        ValueError: a file is damaged, a mask is not as large as its image, or has a value that is not a class.
    """

    val_first = True

    def __init__(
        self,
        *,
        folder: str,
        classes: Sequence[str],
        val_fraction: float,
        test_fraction: float,
        values: Sequence[Value] | None = None,
        ignore: Value | None = None,
        fold: int | None = None,
        folds: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
        self.fold = Fold.of(fold, folds)
        self.folder, self.val_fraction, self.test_fraction = Path(folder), val_fraction, test_fraction
        self.class_names = list(classes)
        if len(self.class_names) != self.num_classes:
            raise ValueError(f"num_classes={self.num_classes}, but classes names {len(self.class_names)}.")
        values = list(range(self.num_classes)) if values is None else list(values)
        self.values = {number(value): label for label, value in enumerate(values)}
        if len(values) != self.num_classes or len(set(self.class_names)) != self.num_classes:
            raise ValueError(f"values={values} must be one for each of the different classes={self.class_names}.")
        if len(self.values) < len(values):
            raise ValueError(f"values={values} must have a different value for each class.")
        in_colors = [not isinstance(value, int) for value in values]
        self.in_color = any(in_colors)
        if self.in_color and not all(in_colors):
            raise ValueError(f"values={values} must be all grey levels, or all colours.")
        if ignore is not None:
            self.values[number(ignore)] = self.ignore_index
        elif not self.in_color:
            self.values.setdefault(self.ignore_index, self.ignore_index)

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read all images and masks, and set `val_size`."""
        if not self.folder.is_dir():
            raise FileNotFoundError(f"data.folder={self.folder} is not a folder; name the one that holds your images.")
        roots = split_folders(self.folder)
        check_splits(self.folder, roots.keys())
        files = {split: paired_files(root) for split, root in roots.items()}
        split_missing(files, self.val_fraction, self.test_fraction, self.split_seed, self.fold)
        self.val_size = len(files["val"])
        return *self._read(files["val"] + files["train"]), *self._read(files["test"])

    def _read(self, files: Sequence[tuple[Path, Path]]) -> tuple[Tensor, Tensor]:
        """Read images (N, C, S, S) and masks (N, S, S)."""
        pairs = []
        for image_path, mask_path in files:
            photo = read_image(image_path, self.mode)
            pairs.append(self.fit_pair(photo, self._to_classes(mask_path, read_mask(mask_path, photo))))
        return stack_pairs(pairs)

    def _to_classes(self, path: Path, mask: np.ndarray) -> np.ndarray:
        """Convert the values (H, W) or colours (H, W, 3) of a mask to classes, uint8 (H, W)."""
        if self.in_color and mask.ndim == 2:
            raise ValueError(f"{path} has no colours, but data.values has: give grey levels, or save the mask as RGB.")
        if not self.in_color and mask.ndim == 3:
            raise ValueError(f"{path} is in colour: give each class one, as in data.values=[[0,0,0],[128,64,128]].")
        if mask.ndim == 3:
            mask = mask.astype(np.int64) @ (65536, 256, 1)  # (H, W)
        classes = np.zeros(mask.shape, np.uint8)
        for value in np.unique(mask).tolist():
            if value not in self.values:
                row, column = np.argwhere(mask == value)[0].tolist()
                shown = [value >> 16, value >> 8 & 255, value & 255] if self.in_color else value
                raise ValueError(
                    f"{path} holds {shown} at row {row}, column {column}, which is not the value of a class: add it to "
                    "data.values, or name it in data.ignore."
                )
            classes[mask == value] = self.values[value]
        return classes


def number(value: Value) -> int:
    """Return a grey level unchanged, and a colour as one number.

    Raises:
        ValueError: it is neither a number from 0 to 255 nor three of them.
    """
    levels = [value] if isinstance(value, int) else list(value)
    if len(levels) not in (1, 3) or not all(isinstance(level, int) and 0 <= level <= 255 for level in levels):
        raise ValueError(f"{value} must be a grey level from 0 to 255, or a colour of three: [128, 64, 128].")
    return sum(level << shift for level, shift in zip(reversed(levels), (0, 8, 16), strict=False))


def paired_files(root: Path) -> list[tuple[Path, Path]]:
    """Return the images in `<root>/images` and the masks of the same names in `<root>/masks`.

    Raises:
        FileNotFoundError: there is no such folder, no image, or a file has no counterpart.
        ValueError: two files differ only in their suffix.
    """
    images, masks = by_stem(root / "images"), by_stem(root / "masks")
    for files, others, folder in ((images, masks, "images"), (masks, images, "masks")):
        if alone := sorted(files.keys() - others.keys()):
            names = ", ".join(alone[:LISTED]) + (" …" if len(alone) > LISTED else "")
            raise FileNotFoundError(
                f"{len(alone)} of {len(files)} files in {root / folder} have no counterpart of the same name in "
                f"{root / ('masks' if files is images else 'images')}: {names}."
            )
    return [(path, masks[stem]) for stem, path in images.items()]


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their path without its suffix.

    Raises:
        FileNotFoundError: the folder does not exist or is empty.
        ValueError: two files differ only in their suffix.
    """
    files: dict[str, Path] = {}
    for path in visible_files(folder) if folder.is_dir() else []:
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in files:
            raise ValueError(f"{files[stem]} and {path} have the same name: delete one of them.")
        files[stem] = path
    if not files:
        raise FileNotFoundError(
            f"{folder} does not exist or is empty: images belong in images/, and their masks in masks/."
        )
    return files
