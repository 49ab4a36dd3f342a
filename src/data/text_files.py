"""Read texts with their classes, by split: from a folder of files for each class, or from a table."""

import csv
from pathlib import Path

from src.data.class_folders import SPLITS, check_splits, class_folders, split_folders, visible_files
from src.predictor import read_text

COLUMNS = ("text", "label")  # required columns of a table; `split` is optional
SHOWN = 5  # reasons in a message

Splits = dict[str, list[tuple[str, str]]]  # texts and their classes by split; under "all" if there are no splits


def read_folders(folder: Path) -> Splits:
    """Read the texts below the folders of classes, which may lie in folders of splits.

    Raises:
        FileNotFoundError: a split has no texts.
        ValueError: files cannot be read, or a split is missing.
    """
    roots = split_folders(folder)
    check_splits(folder, roots)
    splits: Splits = {}
    reasons = []
    for split, root in roots.items():
        files = [(path, name) for name in class_folders(root) for path in visible_files(root / name)]
        if not files:
            raise FileNotFoundError(f"{root} holds no texts: each class needs a folder with its files.")
        splits[split] = []
        for path, name in files:
            try:
                splits[split].append((read_text(path), name))
            except ValueError as error:
                reasons.append(str(error))
    refuse(folder, reasons)
    return splits


def read_table(path: Path) -> Splits:
    """Read the texts of a CSV file with columns `text` and `label`, and perhaps `split`: train, val or test.

    Raises:
        FileNotFoundError: it has no rows.
        ValueError: it is not such a file, a row is incomplete, or a split is unknown or missing.
    """
    splits: Splits = {}
    reasons = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise ValueError(f"it has no column {missing[0]}")
            for row in table:
                absent = [name for name in COLUMNS if not (row[name] or "").strip()]
                split = row.get("split", "all")
                if absent:
                    reasons.append(f"row {table.line_num} has no {absent[0]}")
                elif split not in (*SPLITS, "all"):
                    reasons.append(
                        f"row {table.line_num} has the split {split}, which is not one of {', '.join(SPLITS)}"
                    )
                else:
                    splits.setdefault(split, []).append((row["text"], row["label"]))
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a table of texts: {error}") from error
    refuse(path, reasons)
    if not splits:
        raise FileNotFoundError(f"{path} holds no texts: each row needs a text and a label.")
    check_splits(path, splits)
    return splits


def refuse(path: Path, reasons: list[str]) -> None:
    """Raise ValueError if there are reasons why texts cannot be read."""
    if reasons:
        more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        raise ValueError(f"{path}: {'; '.join(reasons[:SHOWN])}{more}. Repair or delete them.")
