"""A user's own texts: a folder of files per class, or a table; tokens are bytes, so no tokenizer is needed."""

import hashlib
import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from src.data.class_balance import warn_of_imbalance
from src.data.class_folders import SPLITS, class_folders, split_folders
from src.data.resumable_loader import check_batch_size
from src.data.splits import ClassSplits, Fold, check_fractions, split_missing
from src.data.text_batches import TextLoader, Texts
from src.data.text_files import read_folders, read_table
from src.predictor import VOCABULARY_SIZE
from src.system.wording import counted

log = logging.getLogger(__name__)


class TextFolderDataModule(ClassSplits):
    """Texts in `<path>/train|val|test/<class>/` or `<path>/<class>/`, or in a CSV file: columns `text` and `label`.

    A column `split` of the file assigns texts to train, val and test. Without a val split, `val_fraction` of train is
    split off; without any split, `test_fraction` as well. All texts are read before training, to report bad ones early,
    and kept in memory.

    Args:
        path: path of the folder or the file.
        length: maximum number of bytes of a text; the rest is cut off.
        vocabulary_size: must be 257, the bytes and the padding; nets read it from the configuration.
        batch_size: samples per batch, over all ranks together.
        val_fraction: share of the training texts for validation.
        fold: validate on this one of `folds` equal parts of the training texts instead.
        folds: number of parts for cross-validation.
        test_fraction: share of all texts for the test.
        num_classes: required number of classes; None for any.
        shuffle: draw a new order of the training texts for every epoch.
        drop_last: drop an incomplete last training batch.
        num_workers: has no effect, because batches come from memory; accepted because other DataModules have it.
        pin_memory: copy batches to page-locked memory, for a GPU.
        seed: seed of the order of training batches.
        split_seed: seed of the split.

    Raises:
        FileNotFoundError: the path does not exist or has no texts.
        ValueError: texts are unreadable, or the classes differ from `num_classes` or between splits.
    """

    data_train: Texts | None
    data_val: Texts | None
    data_test: Texts | None

    def __init__(
        self,
        path: str,
        *,
        length: int,
        batch_size: int,
        val_fraction: float,
        test_fraction: float,
        vocabulary_size: int = VOCABULARY_SIZE,
        num_classes: int | None = None,
        fold: int | None = None,
        folds: int | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, pin_memory)
        check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
        if length < 1:
            raise ValueError(f"length={length} must be at least 1.")
        if vocabulary_size != VOCABULARY_SIZE:
            raise ValueError(f"vocabulary_size={vocabulary_size} must be {VOCABULARY_SIZE}: the bytes and the padding.")
        if num_workers:
            log.warning("data.num_workers=%d has no effect: batches are cut from memory.", num_workers)
        self.path, self.length, self.num_classes = Path(path), length, num_classes
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        self.fold = Fold.of(fold, folds)
        self.shuffle, self.drop_last, self.seed = shuffle, drop_last, seed
        self.class_names: list[str] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read, check and split the texts."""
        if self.data_train is not None:
            return
        if not self.path.exists():
            raise FileNotFoundError(f"data.path={self.path} does not exist; name a folder of texts, or a CSV file.")
        splits = read_folders(self.path) if self.path.is_dir() else read_table(self.path)
        names = {split: {label for _, label in samples} for split, samples in splits.items()}
        if self.path.is_dir():  # a folder without texts is a class nevertheless, as with images
            self.class_names = class_folders(next(iter(split_folders(self.path).values())))
        else:
            self.class_names = sorted(names.get("all") or names["train"])
        for split, present in names.items():
            if unknown := sorted(present - set(self.class_names)):
                raise ValueError(f"{self.path}: {split} holds the class {unknown[0]}, but train does not.")
        num_classes = len(self.class_names)
        if self.num_classes not in (num_classes, None):
            raise ValueError(
                f"{self.path} holds {counted(num_classes, 'class', 'classes')} "
                f"({', '.join(self.class_names[:5])}{', …' if num_classes > 5 else ''}), "
                f"but data.num_classes={self.num_classes}."
            )
        self.num_classes = num_classes
        if num_classes < 2:
            raise ValueError(
                f"{self.path} holds one class, {', '.join(self.class_names)}: texts need a folder for each of several "
                "classes."
            )
        split_missing(splits, self.val_fraction, self.test_fraction, self.split_seed, self.fold)
        self.data_train, self.data_val, self.data_test = (self._texts(splits[split]) for split in SPLITS)
        check_batch_size(self.batch_size, len(self.data_train))
        warn_of_imbalance(self.class_counts(), self.class_names, "text")

    def input_card(self) -> dict[str, Any]:
        """Describe the tokens and the class names."""
        return {
            "input": "tokens",
            "length": self.length,
            "vocabulary_size": VOCABULARY_SIZE,
            "heads": self.heads(),
        }

    def heads(self) -> dict[str, list[str]]:
        """Return the names of the classes."""
        assert self.class_names is not None, "call setup() first"
        return {"class": self.class_names}

    def labels_of(self, split: Texts) -> Tensor:
        """Return the labels (N,) of a split."""
        return split.labels

    def checksum_of(self, split: Texts) -> str:
        """Return the SHA-256 of the texts of a split, up to `length` bytes each, and of its labels."""
        digest = hashlib.sha256()
        for tensor in (split.bytes, split.ends, split.labels):
            digest.update(tensor.numpy().data)
        return digest.hexdigest()

    def _texts(self, samples: list[tuple[str, str]]) -> Texts:
        assert self.class_names is not None
        labels = {name: label for label, name in enumerate(self.class_names)}
        return Texts([text for text, _ in samples], [labels[name] for _, name in samples], self.length)

    def make_loader(self, split: Texts, train: bool, batch_size: int, rank: int, world_size: int) -> TextLoader:
        """Make a loader of a split; only the training set is shuffled."""
        return TextLoader(
            split,
            batch_size,
            shuffle=train and self.shuffle,
            drop_last=train and self.drop_last,
            seed=self.seed,
            pin_memory=self.pin_memory,
            rank=rank,
            world_size=world_size,
        )
