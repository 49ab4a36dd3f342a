"""Your own images and masks, from a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.class_folders import image_files, split_folders
from src.data.masks import MaskDataModule, read_mask, stack_pairs
from src.predictor import read_image

Value = int | Sequence[int]  # a grey level or palette index, or an RGB colour
LISTED = 5  # files named in a message


class MaskFolderDataModule(MaskDataModule):
    """Images in `<folder>/images/` and masks of the same names in `<folder>/masks/`, or both in train, val and test.

    Masks are PNG, TIFF, BMP or GIF files, as large as their images. Images of any size are resized and kept in memory.

    Args:
        folder: of the images and masks; with `train`, `test` and perhaps `val` in it, or without any.
        classes: names of the classes. As a list: a pixel's grey level or palette index is the number of its class. As
            a mapping: the grey level, palette index or RGB colour of each class.
        val_fraction: fraction of the training images for validation, without a folder `val`.
        test_fraction: fraction of all images for the test, without a folder `test`.
        ignore: value or colour of the pixels that do not count; None: `ignore_index` in masks without colours.
        options: see `MaskDataModule`.

    Raises:
        FileNotFoundError: the folder does not exist or has no images, or a mask or an image is missing.
        ValueError: a file is damaged, a mask is not as large as its image, or has a value that is not a class.
    """

    def __init__(
        self,
        *,
        folder: str,
        classes: Sequence[str] | Mapping[str, Value],
        val_fraction: float,
        test_fraction: float,
        ignore: Value | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name, fraction in {"val_fraction": val_fraction, "test_fraction": test_fraction}.items():
            if not 0 < fraction < 1:
                raise ValueError(f"{name}={fraction} must lie between 0 and 1.")
        self.folder, self.val_fraction, self.test_fraction = Path(folder), val_fraction, test_fraction
        self.class_names = list(classes)
        if len(self.class_names) != self.num_classes:
            raise ValueError(f"num_classes={self.num_classes}, but classes names {len(self.class_names)}.")
        values = dict(classes) if isinstance(classes, Mapping) else {name: i for i, name in enumerate(classes)}
        self.values = {number(value): label for label, value in enumerate(values.values())}
        if len(self.values) < len(values):
            raise ValueError(f"classes={values} must have a different value for each class.")
        in_colors = [not isinstance(value, int) for value in values.values()]
        self.in_color = any(in_colors)
        if self.in_color and not all(in_colors):
            raise ValueError(f"classes={values} must be all grey levels, or all colours.")
        if ignore is not None:
            self.values[number(ignore)] = self.ignore_index
        elif not self.in_color:
            self.values.setdefault(self.ignore_index, self.ignore_index)
        self._has_val = False

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read all images and masks, and set `val_size`."""
        if not self.folder.is_dir():
            raise FileNotFoundError(f"data.folder={self.folder} is not a folder; name the one that holds your images.")
        roots = split_folders(self.folder)
        if "all" not in roots and not {"train", "test"} <= roots.keys():
            raise ValueError(f"{self.folder} holds {', '.join(roots)}: it needs train and test, or neither.")
        splits = {split: self._read(root) for split, root in roots.items()}
        if "all" in splits:
            images, masks = splits["all"]
            order = super().split_order(len(images))
            count = self._share(len(images), self.test_fraction)
            splits = {"test": (images[order[:count]], masks[order[:count]])}
            splits["train"] = images[order[count:]], masks[order[count:]]
        images, masks = splits["train"]
        self._has_val = "val" in splits
        if self._has_val:
            self.val_size = len(splits["val"][0])
            images, masks = torch.cat([splits["val"][0], images]), torch.cat([splits["val"][1], masks])
        else:
            self.val_size = self._share(len(images), self.val_fraction)
        return images, masks, *splits["test"]

    def split_order(self, count: int) -> Tensor:
        """Return the training images (count,) in the order of which the first `val_size` are for validation."""
        return torch.arange(count) if self._has_val else super().split_order(count)

    def _share(self, count: int, fraction: float) -> int:
        if count < 2:
            raise ValueError(f"{self.folder} holds too few images to split off {fraction:g} of them.")
        return max(round(count * fraction), 1)

    def _read(self, root: Path) -> tuple[Tensor, Tensor]:
        """Read the images (N, C, S, S) and masks (N, S, S) of a split."""
        folders = {kind: root / kind for kind in ("images", "masks")}
        for kind, folder in folders.items():
            if not folder.is_dir():
                raise FileNotFoundError(f"{root} has no folder {kind}: it needs images/, and masks/ for their masks.")
        files = {kind: by_stem(folder) for kind, folder in folders.items()}
        for kind, other in (("images", "masks"), ("masks", "images")):
            if alone := sorted(files[kind].keys() - files[other].keys()):
                names = ", ".join(alone[:LISTED]) + (" …" if len(alone) > LISTED else "")
                raise FileNotFoundError(
                    f"{len(alone)} of {len(files[kind])} files in {folders[kind]} have no counterpart of the same name "
                    f"in {folders[other]}: {names}."
                )
        if not files["images"]:
            raise FileNotFoundError(f"{folders['images']} holds no image.")
        pairs = []
        for stem, path in files["images"].items():
            photo = read_image(path, self.mode)
            mask_path = files["masks"][stem]
            pairs.append(self.fit_pair(photo, self._to_classes(mask_path, read_mask(mask_path, photo))))
        return stack_pairs(pairs)

    def _to_classes(self, path: Path, mask: np.ndarray) -> np.ndarray:
        """Convert the values (H, W) or colours (H, W, 3) of a mask to classes, uint8 (H, W)."""
        if self.in_color and mask.ndim == 2:
            raise ValueError(f"{path} has no colours, but classes gives some: name grey levels, or save it as RGB.")
        if not self.in_color and mask.ndim == 3:
            raise ValueError(f"{path} is in colour: give each class one, as in data.classes={{road: [128, 64, 128]}}.")
        if mask.ndim == 3:
            mask = mask.astype(np.int64) @ (65536, 256, 1)  # (H, W)
        classes = np.zeros(mask.shape, np.uint8)
        for value in np.unique(mask).tolist():
            if value not in self.values:
                row, column = np.argwhere(mask == value)[0].tolist()
                shown = [value >> 16, value >> 8 & 255, value & 255] if self.in_color else value
                raise ValueError(
                    f"{path} holds {shown} at row {row}, column {column}, which is not the value of a class: add it to "
                    "data.classes, or name it in data.ignore."
                )
            classes[mask == value] = self.values[value]
        return classes


def number(value: Value) -> int:
    """Return a grey level as it is, and a colour as one number.

    Raises:
        ValueError: it is neither a number from 0 to 255 nor three of them.
    """
    levels = [value] if isinstance(value, int) else list(value)
    if len(levels) not in (1, 3) or not all(isinstance(level, int) and 0 <= level <= 255 for level in levels):
        raise ValueError(f"{value} must be a grey level from 0 to 255, or a colour of three: [128, 64, 128].")
    return sum(level << shift for level, shift in zip(reversed(levels), (0, 8, 16), strict=False))


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their path without its suffix.

    Raises:
        ValueError: two files differ in their suffix alone.
    """
    files: dict[str, Path] = {}
    for path in image_files(folder):
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in files:
            raise ValueError(f"{files[stem]} and {path} have the same name: delete one of them.")
        files[stem] = path
    return files
