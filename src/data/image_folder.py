"""A user's own photographs: a folder for each class; read from disk as they are needed."""

import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from src.data.augmentation import BatchAugmentation
from src.data.class_balance import warn_of_imbalance
from src.data.class_folders import SPLITS, class_folders, image_files, split_folders
from src.data.photographs import RESIZE, Augmentation, Photographs, augmented, centre
from src.data.resumable_loader import ResumableLoader, SeededSampler, can_pin_memory
from src.predictor import read_image
from src.system.wording import counted

log = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageFolderDataModule(L.LightningDataModule):
    """Photographs in `<folder>/train|val|test/<class>/`, or in `<folder>/<class>/`, split by a seed.

    Without a `val` folder, `val_fraction` of `train` is set apart; without the three folders, `test_fraction` as well.
    Every file is read once before training, so that a file that is no image is named then, not an hour later. Order
    and augmentation follow from `seed`, the epoch and the image alone, so that an epoch can be replayed.

    Args:
        folder: of the photographs.
        num_classes: how many class folders there must be; None: as many as there are.
        channels: 3 for RGB, 1 for grey.
        image_size: height and width of the images served: the shorter side is resized to 8/7 of it, the centre cut out.
        batch_size: of all processes together.
        val_fraction: share of the training images set apart for validation.
        test_fraction: share of all images set apart for the test.
        augmentation: of training images: a `BatchAugmentation`, whose random view is cut from the whole photograph, or
            any function of a Pillow image, such as the transforms of torchvision; None: as for validation.
        shuffle: draw a new order of the training images for every epoch.
        skip_unreadable: leave out files that are no images, and list them; else they are an error.
        num_workers: processes that read and transform.
        pin_memory: copy batches to page-locked memory, from which a GPU reads faster.
        mean: of the pixels for each channel, in [0, 1]; ImageNet's where it is not given.
        std: likewise.
        seed: of the order and the augmentation of training images.
        split_seed: of the split.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        ValueError: unreadable files, another number of classes, splits that hold different ones.
    """

    def __init__(
        self,
        folder: str,
        *,
        num_classes: int | None = None,
        channels: int = 3,
        image_size: int = 224,
        batch_size: int = 16,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        augmentation: Augmentation | None = None,
        shuffle: bool = True,
        skip_unreadable: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1.")
        if channels not in (1, 3):
            raise ValueError(f"channels={channels} must be 1 (grey) or 3 (RGB).")
        for name, fraction in {"val_fraction": val_fraction, "test_fraction": test_fraction}.items():
            if not 0 < fraction < 1:
                raise ValueError(f"{name}={fraction} must lie between 0 and 1.")
        self.folder, self.num_classes, self.batch_size = Path(folder), num_classes, batch_size
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.skip_unreadable, self.num_workers = skip_unreadable, num_workers
        self.pin_memory = pin_memory and can_pin_memory()
        self.mode = "L" if channels == 1 else "RGB"
        grey = channels == 1
        self.mean = mean or (IMAGENET_MEAN if not grey else IMAGENET_MEAN[1:2])
        self.std = std or (IMAGENET_STD if not grey else IMAGENET_STD[1:2])
        self.image_size, self.shuffle, self.seed, self.augmentation = image_size, shuffle, seed, augmentation
        self.class_names: list[str] | None = None
        self._digests: dict[Path, str] = {}  # of what the files hold
        self.data_train: Photographs | None = None
        self.data_val: Photographs | None = None
        self.data_test: Photographs | None = None

    def setup(self, stage: str | None = None) -> None:
        """List, check and split the files."""
        if self.data_train is not None:
            return
        if not self.folder.is_dir():
            raise FileNotFoundError(f"data.folder={self.folder} is not a folder; name the one that holds your images.")
        present = [split for split in SPLITS if (self.folder / split).is_dir()]
        if present and not {"train", "test"} <= set(present):
            raise ValueError(f"{self.folder} holds {', '.join(present)}: it needs train and test, or neither.")
        roots = split_folders(self.folder)
        self.class_names = class_folders(next(iter(roots.values())))
        found, wanted = len(self.class_names), self.num_classes
        if found == 0:
            raise FileNotFoundError(
                f"{self.folder} holds no folders of classes: each class needs one, with its images."
            )
        if wanted not in (found, None):
            listed = ", ".join(self.class_names[:5]) + (", …" if found > 5 else "")
            raise ValueError(
                f"{self.folder} holds {counted(found, 'folder')} of classes ({listed}), but data.num_classes={wanted}."
            )
        self.num_classes = found
        splits = {split: self._samples(root) for split, root in roots.items()}
        if "all" in splits:
            splits["test"], splits["train"] = self._split(splits.pop("all"), self.test_fraction)
        if "val" not in splits:
            splits["val"], splits["train"] = self._split(splits["train"], self.val_fraction)
        evaluated = partial(centre, image_size=self.image_size)
        trained = partial(augmented, image_size=self.image_size, augmentation=self.augmentation or BatchAugmentation())
        self.data_train = Photographs(splits["train"], self.mode, trained, self.mean, self.std)
        self.data_val = Photographs(splits["val"], self.mode, evaluated, self.mean, self.std)
        self.data_test = Photographs(splits["test"], self.mode, evaluated, self.mean, self.std)
        if self.batch_size > len(self.data_train):
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the {len(self.data_train)} training images: lower it."
            )
        warn_of_imbalance(self.class_counts(), self.class_names)

    def class_counts(self) -> dict[str, Tensor]:
        """Images of each class (num_classes,) in each split."""
        splits = {"train": self.data_train, "val": self.data_val, "test": self.data_test}
        labels = {name: torch.tensor([label for _, label in split.samples]) for name, split in splits.items() if split}
        return {name: torch.bincount(own, minlength=self.num_classes or 0) for name, own in labels.items()}

    def checksums(self) -> dict[str, str]:
        """SHA-256 of the names and sizes of each split's files, and of what all files hold, for the record of a run."""
        digests = {}
        held = [(str(path.relative_to(self.folder)), digest) for path, digest in sorted(self._digests.items())]
        for name, split in {"train": self.data_train, "val": self.data_val, "test": self.data_test}.items():
            samples = split.samples if split else []
            files = [(str(path.relative_to(self.folder)), path.stat().st_size) for path, _ in samples]
            digests[name] = hashlib.sha256(repr(files).encode()).hexdigest()
        return {**digests, "contents": hashlib.sha256(repr(held).encode()).hexdigest()}

    def input_card(self) -> dict[str, Any]:
        """How an image becomes an input, and the names of the classes; see `InMemoryDataModule.input_card`."""
        assert self.class_names is not None, "setup() comes first"
        return {
            "mode": self.mode,
            "resize": RESIZE,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "heads": {"class": self.class_names},
        }

    def _samples(self, root: Path) -> list[tuple[Path, int]]:
        names = class_folders(root)
        if names != self.class_names:
            raise ValueError(f"{root} holds the classes {names}, but another split holds {self.class_names}.")
        samples = [(path, label) for label, name in enumerate(names) for path in image_files(root / name)]
        reasons = {}
        for path, _ in samples:
            if reason := unreadable(path):
                reasons[path] = reason
            else:  # it has just been read, and a digest takes little beside its decoding
                self._digests[path] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        if reasons and not self.skip_unreadable:
            listed = "; ".join(list(reasons.values())[:5])
            raise ValueError(
                f"{len(reasons)} of {len(samples)} files cannot be read as images ({listed}): mend or delete them, or "
                "leave them out with data.skip_unreadable=true."
            )
        for reason in reasons.values():
            log.warning("left out: %s", reason)
        samples = [sample for sample in samples if sample[0] not in reasons]
        if not samples:
            raise FileNotFoundError(f"{root} holds no image.")
        return samples

    def _split(self, samples: list[tuple[Path, int]], fraction: float) -> tuple[list[Any], list[Any]]:
        count = max(round(len(samples) * fraction), 1)
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(self.split_seed)).tolist()
        return [samples[i] for i in sorted(order[:count])], [samples[i] for i in sorted(order[count:])]

    def _loader(self, data: Photographs | None, train: bool) -> ResumableLoader:
        assert data is not None, "setup() comes first"
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if self.batch_size % world_size:
            raise ValueError(f"batch_size={self.batch_size} must be a multiple of the {world_size} processes.")
        return ResumableLoader(
            data,
            batch_size=self.batch_size // world_size,
            sampler=SeededSampler(len(data), train and self.shuffle, train, self.seed, rank, world_size),
            drop_last=train,
            generator=torch.Generator(),  # of its workers' seeds, which nothing follows from: not the global state
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
        )

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled and augmented batches of the training images."""
        return self._loader(self.data_train, train=True)

    def val_dataloader(self) -> ResumableLoader:
        """Batches of the validation images."""
        return self._loader(self.data_val, train=False)

    def test_dataloader(self) -> ResumableLoader:
        """Batches of the test images."""
        return self._loader(self.data_test, train=False)


def random_view(image_size: int, min_scale: float) -> BatchAugmentation:
    """What `data/augmentation=photos` was in the configurations of earlier runs."""
    return BatchAugmentation(min_scale=min_scale, horizontal_flip=0.5)


def unreadable(path: Path) -> str | None:
    """Why a file cannot be read as an image; None where it can."""
    try:
        read_image(path, "RGB")
    except ValueError as error:
        return str(error)
    return None
