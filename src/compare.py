"""Compare runs: `python src/compare.py runs=[logs/train/multiruns/mine]` gives a table, a CSV file and a page."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.system.signals import listener

if __name__ == "__main__":
    listener.listen()  # before the imports, which take a while

from omegaconf import DictConfig

from src.cli.entry_point import entry_point


def compare(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare the runs that lie in folders and below them.

    Returns:
        The mean of the metric by configuration, and the configurations and files that were made.
    """
    from rich.console import Console

    from src.report.comparisons import compare_by_data
    from src.report.page import write_page
    from src.report.runs import benchmark_metrics, find_runs
    from src.report.studies import study_reports
    from src.report.table import print_tables, write_csv

    runs, damaged = find_runs([cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs or []))
    found = compare_by_data(runs, cfg.metric, cfg.mode, benchmark_metrics(Path(cfg.paths.log_dir)))
    page, rows = Path(cfg.folder) / "compare.html", Path(cfg.folder) / "compare.csv"
    write_csv(rows, found)
    write_page(page, found, study_reports(runs), damaged)
    console = Console(width=None if sys.stdout.isatty() else 200)
    print_tables(console, found, damaged)
    console.print(f"page and table: {page}, {rows}", markup=False, highlight=False, soft_wrap=True)
    means = {one.data_label(each): each.mean(one.metric) for one in found for each in one.configurations}
    return means, {"configurations": [each for one in found for each in one.configurations], "page": page, "csv": rows}


@entry_point("compare")
def main(cfg: DictConfig) -> None:
    """Compare as the command line says."""
    compare(cfg)


if __name__ == "__main__":
    main()
