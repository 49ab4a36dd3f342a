"""A user's own photographs, one folder per class, read from disk on demand."""

import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from src.data.augmentation import BatchAugmentation
from src.data.class_balance import warn_of_imbalance
from src.data.class_folders import check_splits, class_folders, split_folders, visible_files
from src.data.image_schedule import ImageSchedule
from src.data.photographs import RESIZE, Augmentation, Photographs, augmented, centre
from src.data.resumable_loader import ResumableLoader, SeededSampler, check_batch_size
from src.data.splits import Fold, SplitDataModule, check_fractions, split_missing
from src.predictor import read_image
from src.system.wording import counted

log = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageFolderDataModule(SplitDataModule):
    """Photographs in `<folder>/train|val|test/<class>/`, or in `<folder>/<class>/`, split by a seed.

    Without a `val` folder, `val_fraction` of `train` is split off; without the three folders, `test_fraction` as well.
    Every file is read once before training, to report damaged ones early. Order and augmentation depend only on
    `seed`, the epoch and the image, so that an epoch can be replayed.

    Args:
        folder: folder of the photographs.
        num_classes: required number of class folders; None for any.
        channels: 3 for RGB, 1 for grey.
        image_size: height and width of the served images: a centre crop after resizing the shorter side to 8/7 of it.
        batch_size: samples per batch, over all ranks together.
        val_fraction: share of the training images for validation.
        fold: validate on this one of `folds` equal parts of the training images instead.
        folds: number of parts for cross-validation.
        test_fraction: share of all images for the test.
        augmentation: applied to training images: a `BatchAugmentation`, whose random view is cropped from the whole
            photograph, or any function of a Pillow image, such as a torchvision transform; None: as for validation.
        augment_until: see `ImageSchedule`.
        shuffle: draw a new order of the training images for every epoch.
        skip_unreadable: skip files that are not images and log them; if false, they are an error.
        num_workers: processes that read and transform.
        pin_memory: copy batches to page-locked memory, for a GPU.
        mean: mean of the pixels for each channel, in [0, 1]; ImageNet's by default.
        std: standard deviation of the pixels for each channel, in [0, 1].
        seed: seed of the order and the augmentation of training images.
        split_seed: seed of the split.

    Raises:
        FileNotFoundError: the folder does not exist or has no images.
        ValueError: files are unreadable, or the classes differ from `num_classes` or between splits.
    """

    resize = RESIZE
    data_train: Photographs | None
    data_val: Photographs | None
    data_test: Photographs | None

    def __init__(
        self,
        folder: str,
        *,
        channels: int,
        image_size: int,
        batch_size: int,
        val_fraction: float,
        test_fraction: float,
        num_classes: int | None = None,
        fold: int | None = None,
        folds: int | None = None,
        augmentation: Augmentation | None = None,
        augment_until: float = 1.0,
        shuffle: bool = True,
        skip_unreadable: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__(channels, image_size, batch_size, pin_memory)
        check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
        self.folder, self.num_classes = Path(folder), num_classes
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.fold = Fold.of(fold, folds)
        self.skip_unreadable, self.num_workers = skip_unreadable, num_workers
        statistics = slice(None) if channels == 3 else slice(1, 2)  # green's for grey
        self.mean, self.std = mean or IMAGENET_MEAN[statistics], std or IMAGENET_STD[statistics]
        self.shuffle, self.seed, self.augmentation = shuffle, seed, augmentation
        self.schedule = ImageSchedule(augment_until, progress=self.finished_fraction)
        self.class_names: list[str] | None = None
        self._digests: dict[Path, str] = {}  # digests of the files' contents

    def setup(self, stage: str | None = None) -> None:
        """List, check and split the files."""
        if self.data_train is not None:
            return
        if not self.folder.is_dir():
            raise FileNotFoundError(f"data.folder={self.folder} is not a folder; name the one that holds your images.")
        roots = split_folders(self.folder)
        check_splits(self.folder, roots)
        self.class_names = class_folders(next(iter(roots.values())))
        num_classes = len(self.class_names)
        if num_classes == 0:
            raise FileNotFoundError(
                f"{self.folder} holds no folders of classes: each class needs one, with its images."
            )
        if self.num_classes not in (num_classes, None):
            names = ", ".join(self.class_names[:5]) + (", …" if num_classes > 5 else "")
            raise ValueError(
                f"{self.folder} holds {counted(num_classes, 'folder')} of classes ({names}), "
                f"but data.num_classes={self.num_classes}."
            )
        self.num_classes = num_classes
        splits = {split: self._samples(root) for split, root in roots.items()}
        split_missing(splits, self.val_fraction, self.test_fraction, self.split_seed, self.fold)
        eval_view = partial(centre, image_size=self.image_size)
        augmentation = self.augmentation or BatchAugmentation()
        train_view = partial(augmented, image_size=self.image_size, augmentation=augmentation)
        self.data_train = Photographs(splits["train"], self.mode, train_view, self.mean, self.std)
        self.data_val = Photographs(splits["val"], self.mode, eval_view, self.mean, self.std)
        self.data_test = Photographs(splits["test"], self.mode, eval_view, self.mean, self.std)
        check_batch_size(self.batch_size, len(self.data_train))
        warn_of_imbalance(self.class_counts(), self.class_names)

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the file names and sizes of each split, and of the contents of all files."""
        contents = [(str(path.relative_to(self.folder)), digest) for path, digest in sorted(self._digests.items())]
        return {**super().checksums(), "contents": hashlib.sha256(repr(contents).encode()).hexdigest()}

    def heads(self) -> dict[str, list[str]]:
        """Return the names of the class folders."""
        assert self.class_names is not None, "call setup() first"
        return {"class": self.class_names}

    def labels_of(self, split: Photographs) -> Tensor:
        """Return the labels (N,) of a split."""
        return torch.tensor([label for _, label in split.samples])

    def checksum_of(self, split: Photographs) -> str:
        """Return the SHA-256 of the file names and sizes of a split."""
        files = [(str(path.relative_to(self.folder)), path.stat().st_size) for path, _ in split.samples]
        return hashlib.sha256(repr(files).encode()).hexdigest()

    def _samples(self, root: Path) -> list[tuple[Path, int]]:
        names = class_folders(root)
        if names != self.class_names:
            raise ValueError(f"{root} holds the classes {names}, but another split holds {self.class_names}.")
        samples = [(path, label) for label, name in enumerate(names) for path in visible_files(root / name)]
        reasons = {}
        for path, _ in samples:
            try:
                read_image(path, "RGB")
            except ValueError as error:
                reasons[path] = str(error)
            else:  # cheap compared with decoding the image
                self._digests[path] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        if reasons and not self.skip_unreadable:
            first = "; ".join(list(reasons.values())[:5])
            raise ValueError(
                f"{len(reasons)} of {len(samples)} files cannot be read as images ({first}): repair or delete them, or "
                "skip them with data.skip_unreadable=true."
            )
        for reason in reasons.values():
            log.warning("left out: %s", reason)
        samples = [sample for sample in samples if sample[0] not in reasons]
        if not samples:
            raise FileNotFoundError(f"{root} holds no image.")
        return samples

    def make_loader(
        self, split: Photographs, train: bool, batch_size: int, rank: int, world_size: int
    ) -> ResumableLoader:
        """Make a loader of a split; only the training set is shuffled and augmented."""
        return ResumableLoader(
            split,
            batch_size=batch_size,
            sampler=SeededSampler(
                len(split), train and self.shuffle, train, self.seed, rank, world_size, self.schedule.augments
            ),
            drop_last=train,
            generator=torch.Generator(),  # for the workers' seeds, instead of the global random state
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
        )


def random_view(image_size: int, min_scale: float) -> BatchAugmentation:
    """Build `data/augmentation=photos` from the configurations of older runs."""
    return BatchAugmentation(min_scale=min_scale, horizontal_flip=0.5)
