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
from src.cli.output import printed_as


def compare(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare the runs in and below folders.

    Returns:
        The mean of the metric by configuration; the configurations, the files written, and all of it in plain values.
    """
    from rich.console import Console

    from src.report.comparisons import compare_by_data
    from src.report.page import write_page
    from src.report.runs import find_runs, read_benchmarks
    from src.report.studies import study_reports
    from src.report.table import comparison_summary, print_tables, run_rows, write_csv

    runs, damaged = find_runs([cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs or []))
    comparisons = compare_by_data(runs, cfg.metric, cfg.mode, read_benchmarks(Path(cfg.paths.log_dir)))
    page, rows = Path(cfg.folder) / "compare.html", Path(cfg.folder) / "compare.csv"
    write_csv(rows, comparisons)
    write_page(page, comparisons, study_reports(runs), damaged)
    console = Console(width=None if sys.stdout.isatty() else 200)
    print_tables(console, comparisons, damaged)
    console.print(f"page and table: {page}, {rows}", markup=False, highlight=False, soft_wrap=True)
    configurations = [(comparison, one) for comparison in comparisons for one in comparison.configurations]
    means = {comparison.data_label(one): one.mean(comparison.metric) for comparison, one in configurations}
    return means, {
        "configurations": [one for _, one in configurations],
        "page": page,
        "csv": rows,
        "comparisons": [comparison_summary(one) for one in comparisons],
        "runs": run_rows(comparisons),
        "damaged": damaged,
    }


@entry_point("compare")
def main(cfg: DictConfig) -> None:
    """Compare runs as the command line says."""
    with printed_as(cfg.format) as result:
        _, objects = compare(cfg)
        result |= {key: objects[key] for key in ("comparisons", "runs", "damaged", "page", "csv")}


if __name__ == "__main__":
    main()
