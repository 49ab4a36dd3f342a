"""What is known of a sweep's job: `job.json`, which the sweep writes, and `status.json`, which the job itself does."""

import os
import socket
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from src.run.interruption import Interrupted, Pruned
from src.system.json_files import read_json, write_json
from src.system.ranks import is_first

JOB, STATUS = "job.json", "status.json"
PENDING, RUNNING, FINISHED, FAILED = "pending", "running", "finished", "failed"
INTERRUPTED, PRUNED = "interrupted", "pruned"
DONE = (FINISHED, PRUNED)  # for good: such a job is not run again


def note(folder: Path, **facts: Any) -> None:
    """Add facts to the status of a job; a run that is no job of a sweep keeps none."""
    if (folder / JOB).is_file() and is_first():
        write_json(folder / STATUS, {**read_json(folder / STATUS), **facts})


def status_of(folder: Path) -> str:
    """How a job stands, as it has last told."""
    return read_json(folder / STATUS).get("status", PENDING)


def recorded(folder: Path, task: Callable[[], Any], describe: Callable[[BaseException], str]) -> Any:
    """Call a job's task, and let its status tell how that goes; a job that has finished is not done again.

    Args:
        folder: of the job.
        task: returns the figure that the sweep optimises, several of them, or None.
        describe: puts an error into a sentence.
    """
    former = read_json(folder / STATUS) if (folder / JOB).is_file() else {}
    if former.get("status") in DONE:  # an engine may have started it twice
        return former.get("value") if former["status"] == FINISHED else None
    attempts = 1 + (former["attempts"] if isinstance(former.get("attempts"), int) else 0)
    place = {"host": socket.gethostname(), "pid": os.getpid()}
    note(folder, status=RUNNING, attempts=attempts, started=now(), ended=None, error=None, **place)
    try:
        value = task()
    except Pruned as pruned:
        note(folder, status=PRUNED, ended=now(), value=pruned.value)
        return None
    except (Interrupted, KeyboardInterrupt, SystemExit):
        note(folder, status=INTERRUPTED, ended=now())
        raise
    except BaseException as error:
        note(folder, status=FAILED, ended=now(), error=describe(error))
        raise
    note(folder, status=FINISHED, ended=now(), value=value)
    return value


def now() -> str:
    """The time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
