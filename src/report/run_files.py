"""Read and check the files of a run. Missing files count as empty; damaged ones are reported."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.run.file_names import JOB, METRICS, OVERRIDES, RECORD, STATUS, TEST_REPORT, TRACEBACK
from src.run.scores import MODES
from src.run.status import STATUSES
from src.system import safe_files

MAX_BYTES = 1024**2  # maximum size of a file, except for test reports, which contain pictures
MAX_PICTURE = 500_000  # characters of the picture of a mistake
# the keys read from each file, with the type of their values or the allowed values, the default first
KINDS: dict[str, dict[str, type | tuple[str | None, ...]]] = {
    RECORD: {
        **dict.fromkeys(("choices", "packages", "data"), dict),
        **dict.fromkeys(("command", "started", "cpu", "git_commit", "task", "score"), str),
        **dict.fromkeys(("seed", "threads"), int),
        "git_dirty": bool,
        "mode": (None, *MODES),
    },
    METRICS: {},
    JOB: {"overrides": list, "study": dict},
    STATUS: {"status": STATUSES, "epoch": int, "error": str},
}
NAMES = {dict: "a mapping", list: "a list", str: "text", int: "an integer", bool: "true or false", float: "a number"}


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """Read one of a run's JSON files; empty if it does not exist.

    Raises:
        ValueError: the file is damaged, or has values that this project does not write.
    """
    path = folder / name
    try:
        content = safe_files.read_json(path, MAX_BYTES)
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it is {NAMES.get(type(content), 'empty')}, not a mapping.")
    for key, kind in KINDS[name].items():
        value = content.get(key)
        expected = str if isinstance(kind, tuple) else kind
        if value is not None and type(value) is not expected:
            raise ValueError(f"{path} is damaged: {key} is {NAMES[type(value)]}, not {NAMES[expected]}.")
        if isinstance(kind, tuple) and content.get(key, kind[0]) not in kind:
            raise ValueError(f"{path} is damaged: {key} must be one of {', '.join(filter(None, kind))}.")
    return content


def read_metrics(folder: Path) -> dict[str, float]:
    """Read the numbers of `metrics.json`, without null and text.

    Raises:
        ValueError: it is damaged.
    """
    return {name: float(value) for name, value in read_object(folder, METRICS).items() if is_metric(value)}


def is_metric(value: Any) -> bool:
    """Return whether a value is a finite number that can be averaged and drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == 0 or (math.isfinite(value) and 1e-30 < abs(value) < 1e30)


def read_overrides(folder: Path, job: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the overrides of a run, as Hydra recorded them or, for a job that has not started, from its `job.json`.

    Raises:
        ValueError: they are not a list of strings.
    """
    path = folder / OVERRIDES
    try:
        overrides = safe_files.read_yaml(path)
    except FileNotFoundError:
        path, overrides = folder / JOB, job.get("overrides") or []
    if not is_list_of(str, overrides):
        raise ValueError(f"{path} is damaged: it is not a list of overrides.")
    return tuple(overrides)


def read_heads(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the confusion matrix and worst mistakes of each output head from the test report, without damaged heads."""
    try:
        content = safe_files.read_json(folder / TEST_REPORT)
    except (FileNotFoundError, ValueError):
        return {}
    heads = content.get("heads") if isinstance(content, dict) else None
    return {name: head for name, head in heads.items() if is_head(head)} if isinstance(heads, dict) else {}


def is_list_of(kind: type, value: Any) -> bool:
    """Return whether a value is a list of items of exactly this type."""
    return isinstance(value, list) and all(type(item) is kind for item in value)


def is_head(head: Any) -> bool:
    """Return whether a head has valid mistakes and, if present, panel names and a square confusion matrix."""
    if not (
        isinstance(head, dict) and is_list_of(str, head.get("panels", [])) and is_list_of(dict, head.get("mistakes"))
    ):
        return False
    classes, counts = head.get("classes", []), head.get("counts", [])
    return (
        ("classes" in head) == ("counts" in head)
        and isinstance(classes, list)
        and is_list_of(list, counts)
        and len(counts) == len(classes)
        and all(len(row) == len(classes) and is_list_of(int, row) and min(row) >= 0 for row in counts)
        and all(map(is_mistake, head["mistakes"]))
    )


def is_mistake(mistake: Mapping[str, Any]) -> bool:
    """Return whether a mistake has a picture of bounded size, and a caption or the data for one."""
    png = mistake.get("png")
    if not isinstance(png, str) or len(png) > MAX_PICTURE:
        return False
    if "caption" in mistake:
        return isinstance(mistake["caption"], str)
    return {"label", "predicted"} <= mistake.keys() and is_metric(mistake.get("confidence"))


def caption_of(mistake: Mapping[str, Any]) -> str:
    """Return the caption of a mistake's picture; older reports have only the classes."""
    if "caption" in mistake:
        return str(mistake["caption"])
    return f"{mistake['label']}, not\n{mistake['predicted']} {mistake['confidence']:.0%}"


def read_error(folder: Path) -> str | None:
    """Read the last line of a run's traceback; None if there is none."""
    try:
        return safe_files.read_text(folder / TRACEBACK, MAX_BYTES).strip().rpartition("\n")[2]
    except FileNotFoundError:
        return None
    except ValueError as error:
        return str(error)
