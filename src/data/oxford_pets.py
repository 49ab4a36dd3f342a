"""Oxford-IIIT Pet: photographs of cats and dogs with masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from src.data.download import download
from src.data.masks import MaskDataModule, read_mask, stack_pairs
from src.predictor import read_image

FOLDER = Path("oxford-iiit-pet")
ARCHIVES = ("images", "annotations")  # folders, as torchvision keeps them


class OxfordPetsDataModule(MaskDataModule):
    """3,680 photographs for training and 3,669 for the test (Parkhi et al. 2012), of 37 breeds, with trimaps.

    The classes of a pixel are the pet, the background, and the outline between them, which belongs to neither.
    Photographs are stretched to squares and kept in memory.

    Args:
        data_dir: the files are in `<data_dir>/oxford-iiit-pet`, as torchvision keeps them.
        download: download missing files; if false, a missing file is an error.
        options: see `MaskDataModule`.

    Raises:
        FileNotFoundError: a file is missing and cannot be downloaded.
        ValueError: a file is damaged, or a mask is not as large as its photograph.
    """

    class_names: Sequence[str] | None = ("pet", "background", "outline")

    def __init__(self, *, data_dir: str, download: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.data_dir, self.download = Path(data_dir), download

    def prepare_data(self) -> None:
        """Download the files if they are missing. Lightning calls this in one process only."""
        missing = [name for name in ARCHIVES if not (self.data_dir / FOLDER / name).is_dir()]
        if missing:
            download("OxfordIIITPet", self.data_dir, FOLDER, ARCHIVES, missing[0], self.download, "digit_scenes")

    def load(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read the photographs and masks of both official splits."""
        return *self._read("trainval"), *self._read("test")

    def _read(self, split: str) -> tuple[Tensor, Tensor]:
        folder = self.data_dir / FOLDER
        listing = folder / "annotations" / f"{split}.txt"
        if not listing.is_file():
            raise FileNotFoundError(f"OxfordIIITPet is not in {self.data_dir}: prepare_data() downloads it.")
        names = [line.split()[0] for line in listing.read_text().splitlines() if line.strip()]
        pairs = []
        for name in names:
            photo = read_image(folder / "images" / f"{name}.jpg", "RGB")
            trimap = read_mask(folder / "annotations" / "trimaps" / f"{name}.png", photo)  # (H, W), counted from 1
            pairs.append(self.fit_pair(photo, trimap - 1))
        return stack_pairs(pairs)
