"""The files of a run, read and checked: what is lacking is lacking, and what is damaged is told in a sentence."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.run.scores import MODES
from src.run.status import JOB, PENDING, STATUS, STATUSES
from src.system import safe_files

RECORD, METRICS, TEST_REPORT, TRACEBACK = "run.json", "metrics.json", "test_report.json", "traceback.txt"
OVERRIDES = Path(".hydra", "overrides.yaml")
MOST_BYTES = 1024**2  # of a file but for a report of a test, which holds pictures
MOST_PICTURE = 500_000  # characters of the picture of a mistake
# what is read of each file, and of which kind it is where it is there
KINDS: dict[str, dict[str, type]] = {
    RECORD: {
        "seed": int,
        "choices": dict,
        "command": str,
        "started": str,
        "cpu": str,
        "threads": int,
        "git_commit": str,
        "git_dirty": bool,
        "packages": dict,
        "data": dict,
        "score": str,
        "mode": str,
    },
    METRICS: {},
    JOB: {"overrides": list, "study": dict},
    STATUS: {"status": str, "epoch": int, "error": str},
}
NAMES = {dict: "a mapping", list: "a list", str: "text", int: "an integer", bool: "true or false", float: "a number"}


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """What one of the JSON files of a run holds; nothing where there is none.

    Raises:
        ValueError: the file is damaged, or holds something else than this project writes there.
    """
    path = folder / name
    try:
        content = safe_files.read_json(path, MOST_BYTES)
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it is {kind_of(content)}, not a mapping.")
    for key, kind in KINDS[name].items():
        value = content.get(key)
        if value is not None and type(value) is not kind:
            raise ValueError(f"{path} is damaged: {key} is {kind_of(value)}, not {NAMES[kind]}.")
    return content


def kind_of(value: Any) -> str:
    """The kind of a value, as a sentence names it."""
    return NAMES.get(type(value), "empty")


def read_status(folder: Path) -> dict[str, Any]:
    """What `status.json` tells.

    Raises:
        ValueError: it is damaged, or tells of a status that is none.
    """
    content = read_object(folder, STATUS)
    if content.get("status", PENDING) not in STATUSES:
        raise ValueError(f"{folder / STATUS} is damaged: status must be one of {', '.join(STATUSES)}.")
    return content


def read_record(folder: Path) -> dict[str, Any]:
    """What `run.json` tells.

    Raises:
        ValueError: it is damaged, or tells of a mode that is none.
    """
    content = read_object(folder, RECORD)
    if content.get("mode") not in (None, *MODES):
        raise ValueError(f"{folder / RECORD} is damaged: mode must be one of {', '.join(MODES)}.")
    return content


def read_metrics(folder: Path) -> dict[str, float]:
    """The figures of `metrics.json`; null and text are none.

    Raises:
        ValueError: it is damaged.
    """
    return {name: float(value) for name, value in read_object(folder, METRICS).items() if is_metric(value)}


def is_metric(value: Any) -> bool:
    """Whether a value is a number that can be compared: finite, and of a size that can be averaged and drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == 0 or (math.isfinite(value) and 1e-30 < abs(value) < 1e30)


def read_overrides(folder: Path, job: Mapping[str, Any]) -> tuple[str, ...]:
    """The overrides of a run: as Hydra has kept them or, for a job that has not begun, as its sweep has.

    Raises:
        ValueError: they are no list of texts.
    """
    path = folder / OVERRIDES
    try:
        overrides = safe_files.read_yaml(path)
    except FileNotFoundError:
        path, overrides = folder / JOB, job.get("overrides") or []
    if not isinstance(overrides, list) or not all(isinstance(override, str) for override in overrides):
        raise ValueError(f"{path} is damaged: it is no list of overrides.")
    return tuple(overrides)


def read_heads(folder: Path) -> dict[str, dict[str, Any]]:
    """Confusions and worst mistakes of each head that is whole, as `src.callbacks.image_report` has written them."""
    try:
        content = safe_files.read_json(folder / TEST_REPORT)
    except (FileNotFoundError, ValueError):
        return {}
    heads = content.get("heads") if isinstance(content, dict) else None
    return {name: head for name, head in heads.items() if is_head(head)} if isinstance(heads, dict) else {}


def is_head(head: Any) -> bool:
    """Whether a report of a test is whole: mistakes with all that is told of them, the names of the panels of their
    pictures where it tells them, and a square of counts where there are classes."""
    if not isinstance(head, Mapping):
        return False
    mistakes, panels = head.get("mistakes"), head.get("panels", [])
    if (
        not isinstance(mistakes, list)
        or not isinstance(panels, list)
        or not all(isinstance(one, str) for one in panels)
    ):
        return False
    has_classes = "classes" in head or "counts" in head
    return (not has_classes or is_square(head.get("classes"), head.get("counts"))) and all(map(is_mistake, mistakes))


def is_square(classes: Any, counts: Any) -> bool:
    """Whether counts are those of each pair of classes."""
    if not (isinstance(classes, list) and isinstance(counts, list) and len(counts) == len(classes)):
        return False
    return all(
        isinstance(row, list) and len(row) == len(classes) and all(type(count) is int and count >= 0 for count in row)
        for row in counts
    )


def is_mistake(one: Any) -> bool:
    """Whether there is a picture of bounded size and a caption, or what makes one."""
    if not isinstance(one, Mapping) or not isinstance(one.get("png"), str) or len(one["png"]) > MOST_PICTURE:
        return False
    if "caption" in one:
        return isinstance(one["caption"], str)
    return {"label", "predicted"} <= one.keys() and is_metric(one.get("confidence"))


def caption_of(mistake: Mapping[str, Any]) -> str:
    """The words under the picture of a mistake; reports of before tasks wrote them had the classes alone."""
    if "caption" in mistake:
        return str(mistake["caption"])
    return f"{mistake['label']}, not\n{mistake['predicted']} {mistake['confidence']:.0%}"


def read_error(folder: Path) -> str | None:
    """The last line of the traceback that a run has left; None where there is none."""
    try:
        return safe_files.read_text(folder / TRACEBACK, MOST_BYTES).strip().rpartition("\n")[2]
    except FileNotFoundError:
        return None
    except ValueError as error:
        return str(error)
