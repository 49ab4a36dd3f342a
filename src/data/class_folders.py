"""Which classes a folder of images holds: told by the names of its folders, without opening a file."""

from pathlib import Path

SPLITS = ("train", "val", "test")
CLUTTER = ("thumbs.db", "desktop.ini")  # what file managers leave behind, beside files whose names begin with a dot


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders of the splits; or the folder itself, as "all", where there is none of them."""
    return {split: folder / split for split in SPLITS if (folder / split).is_dir()} or {"all": folder}


def class_folders(root: Path) -> list[str]:
    """The names of the folders below `root`, sorted: the classes."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def count_classes(folder: str, default: int) -> int:
    """How many classes a folder of images holds; `default` where there is no such folder, as when a net is measured."""
    root = next(iter(split_folders(Path(folder)).values()))
    return len(class_folders(root)) or default if root.is_dir() else default


def image_files(folder: Path) -> list[Path]:
    """Every file below a folder, sorted, but for hidden ones and what file managers leave behind."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name.lower() not in CLUTTER
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
