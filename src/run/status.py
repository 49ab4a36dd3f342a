"""The status of a sweep's job: the sweep writes `job.json`, the job itself writes `status.json`."""

import os
import socket
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from src.run.file_names import JOB, STATUS
from src.run.interruption import Interrupted, Pruned
from src.system.json_files import read_json, write_json
from src.system.ranks import is_rank_zero

PENDING, RUNNING, FINISHED, FAILED = "pending", "running", "finished", "failed"
INTERRUPTED, PRUNED = "interrupted", "pruned"
STATUSES = (PENDING, RUNNING, FINISHED, FAILED, INTERRUPTED, PRUNED)
DONE = (FINISHED, PRUNED)  # such a job is not run again


def update_status(folder: Path, **facts: Any) -> None:
    """Add facts to the status of a job; do nothing for a run that is not a job of a sweep."""
    if (folder / JOB).is_file() and is_rank_zero():
        write_json(folder / STATUS, {**facts_of(folder), **facts})


def status_of(folder: Path) -> str:
    """Return the status that a job last reported."""
    status: str = facts_of(folder).get("status", PENDING)
    return status


def facts_of(folder: Path) -> dict[str, Any]:
    """Read a job's status; values of the wrong type count as missing.

    A job whose status is damaged is therefore pending, and resumes from its checkpoint if it has one.
    """
    status = read_json(folder / STATUS)
    return {key: value for key, value in status.items() if key in KINDS and KINDS[key](value)}


def is_number(value: Any) -> bool:
    """Return whether a value is a number, finite or not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Return whether a value is a non-negative integer."""
    return type(value) is int and value >= 0


def is_text(value: Any) -> bool:
    """Return whether a value is a string."""
    return isinstance(value, str)


def is_time(value: Any) -> bool:
    """Return whether a value is a time with its zone, as `now` writes it."""
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (ValueError, TypeError):
        return False


def is_value(value: Any) -> bool:
    """Return whether a value is a sweep's objective: a number, null in place of NaN, or a list of these."""
    return all(one is None or is_number(one) for one in (value if isinstance(value, list) else [value]))


def are_metrics(value: Any) -> bool:
    """Return whether a value holds metrics: numbers, or null, by name."""
    return isinstance(value, dict) and all(one is None or is_number(one) for one in value.values())


KINDS: dict[str, Callable[[Any], bool]] = {
    "status": lambda value: value in STATUSES,
    "value": is_value,
    "figures": are_metrics,
    **dict.fromkeys(("attempts", "epoch", "max_epochs", "pid"), is_count),
    **dict.fromkeys(("started", "ended"), is_time),
    **dict.fromkeys(("error", "host"), is_text),
}


def run_with_status(folder: Path, task: Callable[[], Any], describe: Callable[[BaseException], str]) -> Any:
    """Run a job's task and record its status; a finished job is not run again.

    Args:
        folder: the job's folder.
        task: returns the metric that the sweep optimises, several of them, or None.
        describe: turns an error into a sentence.
    """
    previous = facts_of(folder) if (folder / JOB).is_file() else {}
    if previous.get("status") in DONE:  # an engine may have started it twice
        return previous.get("value") if previous["status"] == FINISHED else None
    attempts = 1 + previous.get("attempts", 0)
    process = {"host": socket.gethostname(), "pid": os.getpid()}
    update_status(folder, status=RUNNING, attempts=attempts, started=now(), ended=None, error=None, **process)
    try:
        value = task()
    except Pruned as pruned:
        update_status(folder, status=PRUNED, ended=now(), value=pruned.value)
        return None
    except (Interrupted, KeyboardInterrupt, SystemExit):
        update_status(folder, status=INTERRUPTED, ended=now())
        raise
    except BaseException as error:
        update_status(folder, status=FAILED, ended=now(), error=describe(error))
        raise
    update_status(folder, status=FINISHED, ended=now(), value=value)
    return value


def now() -> str:
    """Return the time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
