"""Show the progress of a sweep: a live table on a terminal, else one line per job, and a summary at the end."""

import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from src.config.quoting import name_of
from src.run.status import FAILED, FINISHED, INTERRUPTED, PRUNED
from src.sweeps.jobs import REPLICATES, Job
from src.sweeps.objectives import Objective, objective_values, ranked, sort_key
from src.system.safe_files import printable
from src.system.wording import counted

MAX_ROWS = 40  # rows of a summary; more jobs are listed by group
MAX_FAILURES = 5  # listed in a summary by group
LONG_NUMBER = re.compile(r"\d+\.\d{5,}(e[-+]?\d+)?")
COLOURS = {FINISHED: "green", PRUNED: "yellow", INTERRUPTED: "yellow", FAILED: "red"}


class Progress:
    """Show the running jobs, and log how each job ended.

    Args:
        total: number of jobs to run.
    """

    def __init__(self, total: int) -> None:
        self.total, self.ended, self._start = total, 0, time.monotonic()
        self.console = Console(stderr=True)
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, running: Sequence[Job]) -> None:
        """Draw the table of the running jobs."""
        if not self._live.is_started:
            return
        table = Table("job", "epoch", "metrics", "for", "overrides", box=None, pad_edge=False)
        done = float(self.ended)
        for job in sorted(running, key=lambda job: job.number):
            facts = job.facts
            if "max_epochs" in facts:
                done += facts.get("epoch", 0) / max(facts["max_epochs"], 1)
            epochs = f"{facts.get('epoch', 0)} of {facts['max_epochs']}" if "max_epochs" in facts else "…"
            table.add_row(
                str(job.number),
                epochs,
                escape(metrics_text(facts)),
                elapsed(facts.get("started")),
                escape(describe_job(job)),
            )
        self._live.update(Group(table, self._line(done)), refresh=True)

    def log(self, job: Job) -> None:
        """Log how a job ended."""
        self.ended += 1
        facts = job.facts
        detail = printable(facts.get("error", "")) if job.status == FAILED else metrics_text(facts)
        line = f"job {job.number} {job.status}: {describe_job(job)}{f'  {detail}' if detail else ''}"
        if not self._live.is_started:
            line = f"[{self.ended}/{self.total}] {line}"
        self.console.print(
            printable(line), style=COLOURS.get(job.status), markup=False, highlight=False, soft_wrap=True
        )

    def _line(self, done: float) -> str:
        """Return the progress line; `done` counts jobs, running ones by their share of epochs."""
        seconds = time.monotonic() - self._start
        left = f", about {duration(seconds / done * (self.total - done))} to go" if done else ""
        return f"{self.ended} of {counted(self.total, 'job')} in {duration(seconds)}{left}"


def summarise(
    jobs: Sequence[Job], folder: Path, console: Console | None = None, objectives: Sequence[Objective] = ()
) -> None:
    """Print all jobs of a sweep (or groups of them if there are many), the best first, then failures and the folder."""
    statuses = Counter(job.status for job in jobs)
    shared = common(jobs)
    console = console or Console()
    draw = table_of_jobs if len(jobs) <= MAX_ROWS else table_of_groups
    console.print(draw(ranked(jobs, objectives), shared, objectives))
    if shared:
        console.print(printable(f"all with: {' '.join(sorted(shared))}"), markup=False, highlight=False, soft_wrap=True)
    failed = [job for job in jobs if job.status == FAILED]
    for job in failed if len(jobs) <= MAX_ROWS else failed[:MAX_FAILURES]:
        console.print(printable(f"job {job.number} failed: {job.facts.get('error')}"), markup=False, soft_wrap=True)
    if len(jobs) > MAX_ROWS and len(failed) > MAX_FAILURES:
        console.print(f"… and {len(failed) - MAX_FAILURES} more jobs failed", highlight=False)
    line = f"{counted(len(jobs), 'job')}: {counts(statuses)}. Sweep directory: {folder}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def title(objectives: Sequence[Objective]) -> str:
    """Return the header of the value column."""
    return ", ".join(one.metric for one in objectives) or "value"


def table_of_jobs(jobs: Sequence[Job], shared: Collection[str], objectives: Sequence[Objective]) -> Table:
    """Return one row per job."""
    table = Table("job", "status", escape(title(objectives)), "epochs", "overrides")
    for job in jobs:
        facts, status = job.facts, job.status
        style = COLOURS.get(status, "")
        table.add_row(
            str(job.number),
            f"[{style}]{status}[/]" if style else status,
            value_text(facts.get("value")) or escape(metrics_text(facts)),
            str(facts.get("epoch", "")),
            escape(describe_job(job, shared)),
        )
    return table


def table_of_groups(jobs: Sequence[Job], shared: Collection[str], objectives: Sequence[Objective]) -> Table:
    """Return one row for the jobs that differ only in their seeds or folds, with their mean; the best first."""
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(word for word in job.overrides if name_of(word) not in REPLICATES), []).append(job)
    table = Table("jobs", "status", escape(f"mean {title(objectives)}"), "overrides")
    for group in sorted(groups.values(), key=lambda group: sort_key(means(group), objectives))[:MAX_ROWS]:
        values_by_name: dict[str, list[float]] = {}
        for job in group:
            for name, number in (job.facts.get("figures") or {}).items():
                values_by_name.setdefault(name, []).extend(objective_values(number))
        averages = {name: mean(values) for name, values in values_by_name.items() if values}
        table.add_row(
            str(len(group)),
            counts(Counter(job.status for job in group)),
            value_text(means(group)) or escape(metrics_text({"figures": averages})),
            escape(
                describe_job(group[0], {*shared, *(word for word in group[0].overrides if name_of(word) in REPLICATES)})
            ),
        )
    if len(groups) > MAX_ROWS:
        table.add_row("…", "", "", f"and {len(groups) - MAX_ROWS} more groups")
    return table


def means(jobs: Sequence[Job]) -> list[float]:
    """Return the mean of each objective over the jobs that have a value."""
    values = [objective_values(job.facts.get("value")) for job in jobs]
    return [mean(column) for column in zip(*filter(None, values), strict=False)]


def counts(statuses: Mapping[str, int]) -> str:
    """Return the number of jobs of each status."""
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


def common(jobs: Sequence[Job]) -> set[str]:
    """Return the overrides that several jobs share."""
    return set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()


def describe_job(job: Job, left_out: Collection[str] = ()) -> str:
    """Return the overrides of a job, with long numbers rounded."""
    return printable(" ".join(LONG_NUMBER.sub(rounded, word) for word in job.overrides if word not in left_out))


def rounded(match: re.Match[str]) -> str:
    """Round a number to four significant digits."""
    return f"{float(match[0]):.4g}"


def metrics_text(facts: Mapping[str, Any]) -> str:
    """Return the latest metrics that a job has reported, without missing ones."""
    metrics = facts.get("figures") or {}
    return "  ".join(f"{printable(name)} {number:.4g}" for name, number in metrics.items() if number is not None)


def value_text(content: Any) -> str:
    """Return the values of the objectives of one job."""
    return ", ".join(f"{number:.4g}" for number in objective_values(content))


def elapsed(started: str | None) -> str:
    """Return the time since a start."""
    if started is None:
        return ""
    return duration((datetime.now(timezone.utc) - datetime.fromisoformat(started)).total_seconds())


def duration(seconds: float) -> str:
    """Format a duration: 7 s, 3 min 05 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
