"""Find the splits, classes and files in a folder of samples by their names."""

import csv
from collections.abc import Collection
from pathlib import Path

SPLITS = ("train", "val", "test")
CLUTTER = ("thumbs.db", "desktop.ini")  # files of file managers, besides hidden ones


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of the splits by name, or {"all": folder} if there are none."""
    return {split: folder / split for split in SPLITS if (folder / split).is_dir()} or {"all": folder}


def check_splits(path: Path, splits: Collection[str]) -> None:
    """Raise ValueError if some of the splits are there, but not both train and test."""
    present = [split for split in SPLITS if split in splits]
    if present and not {"train", "test"} <= set(present):
        raise ValueError(f"{path} holds {', '.join(present)}: it needs train and test, or neither.")


def class_folders(root: Path) -> list[str]:
    """Return the sorted names of the folders in `root`: the classes."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def count_classes(folder: str, default: int) -> int:
    """Return the number of classes in a folder of samples, or in the column `label` of a CSV file.

    Return `default` if neither exists, as when a net is benchmarked.
    """
    if Path(folder).is_file():
        return count_labels(Path(folder)) or default
    root = next(iter(split_folders(Path(folder)).values()))
    return len(class_folders(root)) or default if root.is_dir() else default


def count_labels(path: Path) -> int:
    """Return the number of different labels in a CSV file; 0 if it has none."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return len({label for row in csv.DictReader(file) if (label := row.get("label"))})
    except csv.Error:  # the DataModule reads it again, and reports the error
        return 0


def visible_files(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted, except hidden ones and those of file managers."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name.lower() not in CLUTTER
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
