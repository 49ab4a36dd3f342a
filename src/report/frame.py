"""Runs as a pandas DataFrame."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from src.report.comparisons import compare_by_data
from src.report.runs import find_runs
from src.report.table import run_rows

if TYPE_CHECKING:
    from pandas import DataFrame


def runs_frame(folders: Sequence[str]) -> "DataFrame":
    """Return a row for each run in and below folders, with its settings, status and metrics, indexed by its folder.

    Damaged runs are left out, with a warning.

    Raises:
        FileNotFoundError, ValueError: see `src.report.runs.find_runs`.
        ModuleNotFoundError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "A table of runs needs a package that is not installed: pip install -e '.[notebook]'"
        ) from error
    runs, damaged = find_runs(folders)
    for sentence in damaged:
        warnings.warn(f"left out: {sentence}", stacklevel=3)
    settings = {str(run.folder): run.settings for run in runs}
    rows: list[dict[str, Any]] = [{**settings[row["folder"]], **row} for row in run_rows(compare_by_data(runs))]
    return pandas.DataFrame(rows).set_index("folder")
