"""The output of a program: tables for people, or JSON for other programs."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from src.system.json_files import finite
from src.system.ranks import is_rank_zero

FORMATS = ("table", "json")


def check_form(arguments: Sequence[str]) -> None:
    """Reject JSON output for a sweep, whose jobs would each print an object.

    Raises:
        ValueError: the command line has both.
    """
    if {"-m", "--multirun"} & set(arguments) and "format=json" in arguments:
        raise ValueError(
            "format=json is for one run or net: leave it out of the sweep. Afterwards python src/compare.py "
            "runs=[<sweep>] format=json prints its runs; cards.json in its folder has the results of src/describe.py."
        )


@contextmanager
def printed_as(form: str) -> Iterator[dict[str, Any]]:
    """Yield a dict for a program's result, which is printed at the end if the form is "json".

    Standard output then contains a single JSON object and nothing else: tables and progress go to standard error. A
    program that fails prints no object. NaN and infinity become null.

    Raises:
        ValueError: the form does not exist.
    """
    if form not in FORMATS:
        raise ValueError(f"format={form} must be one of {', '.join(FORMATS)}.")
    result: dict[str, Any] = {}
    if form == "table":
        yield result
        return
    with redirect_stdout(sys.stderr):
        yield result
    if is_rank_zero():
        plain = json.dumps(finite(result), default=plain_value, allow_nan=False, sort_keys=True)
        sys.stdout.write(plain + "\n")
        sys.stdout.flush()


def plain_value(value: Any) -> Any:
    """Convert a path to text, and a zero-dimensional tensor to a number."""
    return str(value) if isinstance(value, Path) else finite(value.item())


def result_of(metrics: Mapping[str, Any], objects: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a training run or a test: its folder, its metrics, and the name and mode of its score.

    Args:
        metrics: see `src.train.train`.
        objects: see `src.train.train`.
    """
    from src.models.task import Task  # imports torch, which the run has already imported

    model = objects["model"]
    score = {"score": model.score, "mode": model.mode} if isinstance(model, Task) else {}
    return {"run_dir": str(objects["cfg"].paths.output_dir), **score, "metrics": dict(metrics)}
