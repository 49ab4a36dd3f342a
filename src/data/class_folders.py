"""The splits, classes and files of a folder of images, by name alone."""

from pathlib import Path

SPLITS = ("train", "val", "test")
CLUTTER = ("thumbs.db", "desktop.ini")  # what file managers leave behind, beside files whose names begin with a dot


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders of the splits by name, or {"all": folder} if there are none."""
    return {split: folder / split for split in SPLITS if (folder / split).is_dir()} or {"all": folder}


def class_folders(root: Path) -> list[str]:
    """The sorted names of the folders in `root`: the classes."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def count_classes(folder: str, default: int) -> int:
    """The number of classes in a folder of images; `default` if it does not exist, as when a net is benchmarked."""
    root = next(iter(split_folders(Path(folder)).values()))
    return len(class_folders(root)) or default if root.is_dir() else default


def image_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, except for hidden ones and those of file managers."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name.lower() not in CLUTTER
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
