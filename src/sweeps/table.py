"""How a sweep is doing: a live table on a terminal, a line a job anywhere else; and a summary at the end."""

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
from src.sweeps.jobs import Job
from src.sweeps.objectives import Objective, numbers, place, ranked
from src.system.safe_files import printable
from src.system.wording import counted

ROWS = 40  # of a summary; more jobs than that are told by group
NAMED = 5  # of their failures
LONG_NUMBER = re.compile(r"\d+\.\d{5,}(e[-+]?\d+)?")
COLOURS = {FINISHED: "green", PRUNED: "yellow", INTERRUPTED: "yellow", FAILED: "red"}


class Progress:
    """Show the running jobs, and say of each job how it ended.

    Args:
        total: the jobs that there are to do.
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
        table = Table("job", "epoch", "figures", "for", "what", box=None, pad_edge=False)
        done = float(self.ended)
        for job in sorted(running, key=lambda job: job.number):
            facts = job.facts
            if "max_epochs" in facts:
                done += facts.get("epoch", 0) / max(facts["max_epochs"], 1)
            epochs = f"{facts.get('epoch', 0)} of {facts['max_epochs']}" if "max_epochs" in facts else "…"
            table.add_row(
                str(job.number),
                epochs,
                escape(figures(facts)),
                elapsed(facts.get("started")),
                escape(describe_job(job)),
            )
        self._live.update(Group(table, self._line(done)), refresh=True)

    def tell(self, job: Job) -> None:
        """Say how a job ended."""
        self.ended += 1
        facts = job.facts
        detail = printable(facts.get("error", "")) if job.status == FAILED else figures(facts)
        line = f"job {job.number} {job.status}: {describe_job(job)}{f'  {detail}' if detail else ''}"
        if not self._live.is_started:
            line = f"[{self.ended}/{self.total}] {line}"
        self.console.print(
            printable(line), style=COLOURS.get(job.status), markup=False, highlight=False, soft_wrap=True
        )

    def _line(self, done: float) -> str:
        """How it stands; `done` counts jobs, and of those that run the share of their epochs."""
        seconds = time.monotonic() - self._start
        left = f", about {duration(seconds / done * (self.total - done))} to go" if done else ""
        return f"{self.ended} of {counted(self.total, 'job')} in {duration(seconds)}{left}"


def summarise(
    jobs: Sequence[Job], folder: Path, console: Console | None = None, objectives: Sequence[Objective] = ()
) -> None:
    """Print a table of all jobs of a sweep or, of many, of their groups, the best first where there is one objective;
    what failed, and where it all is."""
    statuses = Counter(job.status for job in jobs)
    shared = common(jobs)
    console = console or Console()
    draw = table_of_jobs if len(jobs) <= ROWS else table_of_groups
    console.print(draw(ranked(jobs, objectives), shared, objectives))
    if shared:
        console.print(printable(f"all with: {' '.join(sorted(shared))}"), markup=False, highlight=False, soft_wrap=True)
    failed = [job for job in jobs if job.status == FAILED]
    for job in failed if len(jobs) <= ROWS else failed[:NAMED]:
        console.print(printable(f"job {job.number} failed: {job.facts.get('error')}"), markup=False, soft_wrap=True)
    if len(jobs) > ROWS and len(failed) > NAMED:
        console.print(f"… and {len(failed) - NAMED} more jobs failed", highlight=False)
    line = f"{counted(len(jobs), 'job')}: {counts(statuses)}. Sweep directory: {folder}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def title(objectives: Sequence[Objective]) -> str:
    """What the values of a table are."""
    return ", ".join(one.metric for one in objectives) or "value"


def table_of_jobs(jobs: Sequence[Job], shared: Collection[str], objectives: Sequence[Objective]) -> Table:
    """A row for each job."""
    table = Table("job", "status", escape(title(objectives)), "epochs", "what")
    for job in jobs:
        facts, status = job.facts, job.status
        style = COLOURS.get(status, "")
        table.add_row(
            str(job.number),
            f"[{style}]{status}[/]" if style else status,
            value(facts.get("value")) or escape(figures(facts)),
            str(facts.get("epoch", "")),
            escape(describe_job(job, shared)),
        )
    return table


def table_of_groups(jobs: Sequence[Job], shared: Collection[str], objectives: Sequence[Objective]) -> Table:
    """A row for the jobs that differ by nothing but their seeds, with the mean of what they found; the best first."""
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(word for word in job.overrides if name_of(word) != "seed"), []).append(job)
    table = Table("jobs", "status", escape(f"mean {title(objectives)}"), "what")
    for group in sorted(groups.values(), key=lambda group: place(means(group), objectives))[:ROWS]:
        every: dict[str, list[float]] = {}
        for job in group:
            for name, number in (job.facts.get("figures") or {}).items():
                every.setdefault(name, []).extend(numbers(number))
        told = {name: mean(found) for name, found in every.items() if found}
        table.add_row(
            str(len(group)),
            counts(Counter(job.status for job in group)),
            value(means(group)) or escape(figures({"figures": told})),
            escape(
                describe_job(group[0], {*shared, *(word for word in group[0].overrides if name_of(word) == "seed")})
            ),
        )
    if len(groups) > ROWS:
        table.add_row("…", "", "", f"and {len(groups) - ROWS} more groups")
    return table


def means(jobs: Sequence[Job]) -> list[float]:
    """The mean of each objective over the jobs that found it."""
    found = [numbers(job.facts.get("value")) for job in jobs]
    return [mean(column) for column in zip(*filter(None, found), strict=False)]


def counts(statuses: Mapping[str, int]) -> str:
    """How many there are of each."""
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


def common(jobs: Sequence[Job]) -> set[str]:
    """The overrides that all of several jobs have."""
    return set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()


def describe_job(job: Job, left_out: Collection[str] = ()) -> str:
    """What a job is, in the words of the command line; long numbers are rounded."""
    return printable(" ".join(LONG_NUMBER.sub(rounded, word) for word in job.overrides if word not in left_out))


def rounded(match: re.Match[str]) -> str:
    """A number with as many digits as one reads."""
    return f"{float(match[0]):.4g}"


def figures(facts: Mapping[str, Any]) -> str:
    """The last figures that a job has told; what was no number is left out."""
    found = facts.get("figures") or {}
    return "  ".join(f"{printable(name)} {number:.4g}" for name, number in found.items() if number is not None)


def value(content: Any) -> str:
    """What a sweep optimises, of one job."""
    return ", ".join(f"{number:.4g}" for number in numbers(content))


def elapsed(started: str | None) -> str:
    """How long ago a time was."""
    if started is None:
        return ""
    return duration((datetime.now(timezone.utc) - datetime.fromisoformat(started)).total_seconds())


def duration(seconds: float) -> str:
    """A time in the units that matter: 7 s, 3 min 05 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
