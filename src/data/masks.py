"""Base class of the DataModules whose targets are masks: the class of every pixel."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PIL
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.utils.data import TensorDataset

from src.data.in_memory import InMemoryDataModule
from src.data.photographs import to_pixels
from src.predictor import fit_image
from src.system.wording import counted

LOSSLESS = ("PNG", "TIFF", "BMP", "GIF")


class MaskDataModule(InMemoryDataModule):
    """Keep images and masks in memory. A subclass implements `load`, which returns masks, uint8 (N, H, W), as labels.

    Masks are resized by nearest neighbour; the border of smaller images is ignored.

    Args:
        ignore_index: value of pixels without a class.
        options: see `InMemoryDataModule`.

    Raises:
        ValueError: `ignore_index` is a class or exceeds 255; or see `InMemoryDataModule`.
    """

    max_imbalance = math.inf  # the background may have any share of the pixels

    def __init__(self, *, ignore_index: int, **options: Any) -> None:
        super().__init__(**options)
        if self.held_out:
            raise ValueError(f"held_out={self.held_out} leaves out labels of images, but this data has masks.")
        if not isinstance(self.num_classes, int):
            raise ValueError(f"num_classes={self.num_classes} must be a number for data with masks.")
        if not self.num_classes <= ignore_index <= 255:
            raise ValueError(
                f"ignore_index={ignore_index} must be from num_classes={self.num_classes} to 255: it is not a class."
            )
        self.ignore_index = ignore_index

    def check_labels(self, labels: Tensor) -> None:
        """Raise ValueError if a pixel of masks (N, H, W) is neither a class nor ignored."""
        counts = torch.bincount(labels.flatten(), minlength=256)
        counts[self.ignore_index] = 0
        if (invalid := counts[self.num_own_classes :].nonzero().flatten() + self.num_own_classes).numel():
            classes = counted(self.num_own_classes, "class", "classes")
            raise ValueError(
                f"The masks hold the value {int(invalid[0])}, but those of {classes} run from 0 to "
                f"{self.num_own_classes - 1}, and {self.ignore_index} is ignored."
            )

    def fit_targets(self, targets: Tensor) -> Tensor:
        """Convert masks (N, H, W) to the served size."""
        return self.fit_size(targets[:, None], "nearest-exact", self.ignore_index)[:, 0].contiguous()

    def heads(self) -> dict[str, list[str]]:
        """Return the names of the classes."""
        return {"mask": self.own_class_names}

    def labels_of(self, split: TensorDataset) -> Tensor:
        """Return the classes (pixels,) of all pixels of a split that are not ignored."""
        labels = split.tensors[1].flatten()
        return labels[labels != self.ignore_index]

    def fit_pair(self, image: Image, mask: np.ndarray) -> tuple[Tensor, Tensor]:
        """Convert an image and its mask (H, W) to pixels (C, S, S) and classes (S, S) of the served size S."""
        pixels = to_pixels(fit_image(image, self.resize, self.image_size))
        fitted = fit_image(PIL.fromarray(mask), self.resize, self.image_size, Resampling.NEAREST, self.ignore_index)
        return pixels, to_pixels(fitted)[0]


def stack_pairs(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack pixels (C, H, W) and classes (H, W) to images (N, C, H, W) and masks (N, H, W)."""
    images, masks = zip(*pairs, strict=True)
    return torch.stack(images), torch.stack(masks)


def read_mask(path: Path, photo: Image) -> np.ndarray:
    """Read a mask without conversion: grey levels or palette indices (H, W), or colours (H, W, 3), uint8.

    Args:
        path: path of a lossless image.
        photo: the photo that the mask belongs to.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a lossless image of 8 bits, is damaged, or is not as large as the photo.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The mask {path} is missing.")
    try:
        with PIL.open(path, formats=LOSSLESS) as file:
            file.load()
            image = file.convert({"1": "L", "RGBA": "RGB"}.get(file.mode, file.mode))
    except PIL.UnidentifiedImageError as error:
        raise ValueError(f"The mask {path} cannot be read: it must be one of {', '.join(LOSSLESS)}.") from error
    except Exception as error:  # decoders raise errors of any kind on damaged files
        raise ValueError(f"The mask {path} cannot be read: {str(error) or type(error).__name__}.") from error
    if image.mode not in ("L", "P", "RGB"):
        raise ValueError(f"The mask {path} is of the mode {image.mode}: save it with 8 bits, grey, palette or RGB.")
    if image.size != photo.size:
        width, height = image.size
        raise ValueError(f"The mask {path} is {width}×{height}, but its image is {photo.width}×{photo.height}.")
    return np.array(image)
