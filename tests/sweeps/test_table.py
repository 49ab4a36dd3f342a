"""The display of a sweep while it runs, and the summary at its end."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from src.run.status import update_status
from src.sweeps.jobs import Job, Sweep, jobs_in
from src.sweeps.objectives import Objective
from src.sweeps.table import Progress, describe_job, duration, summarise


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    sweep = Sweep(tmp_path, "train", ["seed", "lr"])
    return sweep.jobs_for([["seed=1", "lr=0.123456789", "tags=[a]"], ["seed=2", "lr=1", "tags=[a]"]])


def console() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=False)


def text(used: Console) -> str:
    return used.file.getvalue()  # type: ignore[attr-defined]


def test_a_summary_tells_each_job_what_failed_and_where(jobs: list[Job], tmp_path: Path) -> None:
    update_status(jobs[0].folder, status="finished", value=[0.98765, 3], epoch=4)
    update_status(jobs[1].folder, status="failed", error="[red]no[/] room")
    used = console()
    summarise(jobs, tmp_path, used)
    shown = text(used)
    assert "0.9877, 3" in shown and "lr=0.1235 seed=1" not in shown and "seed=1 lr=0.1235" in shown
    assert "all with: tags=[a]" in shown and "job 1 failed: [red]no[/] room" in shown
    assert f"2 jobs: 1 finished, 1 failed. Sweep directory: {tmp_path}" in shown


def test_a_summary_keeps_the_brackets_of_a_folder_and_counts_one_job(jobs: list[Job], tmp_path: Path) -> None:
    used = console()
    summarise(jobs[:1], tmp_path / "[bold]", used)
    assert f"\n1 job: 1 pending. Sweep directory: {tmp_path}/[bold]" in text(used)


def test_without_an_objective_the_last_figures_are_shown(jobs: list[Job], tmp_path: Path) -> None:
    update_status(jobs[0].folder, status="finished", figures={"val/acc": 0.5})
    used = console()
    summarise(jobs[:1], tmp_path, used)
    assert "val/acc 0.5" in text(used) and "all with" not in text(used)


def test_a_line_for_each_job_that_ends_where_there_is_no_terminal(jobs: list[Job]) -> None:
    with Progress(total=2) as progress:
        progress.console = console()
        update_status(jobs[0].folder, status="finished", figures={"val/acc": 0.5})
        update_status(jobs[1].folder, status="failed", error="no room")
        progress.show(jobs)
        for job in jobs:
            progress.log(job)
    assert text(progress.console).splitlines() == [
        "[1/2] job 0 finished: seed=1 lr=0.1235 tags=[a]  val/acc 0.5",
        "[2/2] job 1 failed: seed=2 lr=1 tags=[a]  no room",
    ]


def test_what_is_left_is_told_from_jobs_and_their_epochs(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(total=4)
    monkeypatch.setattr("src.sweeps.table.time.monotonic", lambda: progress._start + 60)
    assert progress._line(0) == "0 of 4 jobs in 1 min 00 s"
    assert progress._line(1.5) == "0 of 4 jobs in 1 min 00 s, about 1 min 40 s to go"


def test_words_leave_out_what_is_common(jobs: list[Job]) -> None:
    assert describe_job(jobs[0], {"seed=1"}) == "lr=0.1235 tags=[a]"


def test_times_as_one_reads_them() -> None:
    assert [duration(seconds) for seconds in (7, 65, 7800)] == ["7 s", "1 min 05 s", "2 h 10 min"]


@pytest.mark.parametrize("key", ["seed", "data.fold"])
def test_many_jobs_are_told_by_what_they_are_but_for_their_seeds(key: str, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "train", [key, "lr"])
    many = sweep.jobs_for([f"lr={lr}", f"{key}={seed}", "tags=[a]"] for lr in (0.1, 0.2) for seed in range(30))
    for number, job in enumerate(many):
        facts = {"status": "failed", "error": "no room"} if number % 3 == 0 else {"status": "finished", "value": number}
        update_status(job.folder, **facts)
    used = console()
    summarise(many, tmp_path, used)
    rows = [line.split("│")[1:-1] for line in text(used).splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["30", "10 failed, 20 finished", "15", "lr=0.1"],
        ["30", "10 failed, 20 finished", "45", "lr=0.2"],
    ]
    assert "job 0 failed: no room" in text(used) and text(used).count("failed: no room") == 5
    assert "… and 15 more jobs failed" in text(used) and "60 jobs: 20 failed, 40 finished." in text(used)


@pytest.mark.parametrize(("minimised", "order"), [(True, "1203"), (False, "2103")])
def test_the_best_come_first_and_their_column_has_a_name(minimised: bool, order: str, tmp_path: Path) -> None:
    four = Sweep(tmp_path, "train", ["lr"]).jobs_for([f"lr={lr}"] for lr in range(4))
    for job, status, value in zip(four, ("interrupted", *["finished"] * 3), (None, 0.1, 0.3, None), strict=True):
        update_status(job.folder, status=status, value=value)
    used = console()
    summarise(four, tmp_path, used, [Objective("val/mse_best", minimised)])
    rows = [line.split("│")[1].strip() for line in text(used).splitlines() if "│" in line]
    assert "".join(rows) == order and "val/mse_best" in text(used)


@pytest.mark.parametrize(("minimised", "first"), [(True, "lr=1"), (False, "lr=2")])
def test_the_best_groups_come_first(minimised: bool, first: str, tmp_path: Path) -> None:
    many = Sweep(tmp_path, "train", ["seed", "lr"]).jobs_for(
        [f"lr={lr}", f"seed={seed}"] for lr in range(4) for seed in range(12)
    )
    for number, job in enumerate(many):  # the best and the worst job are of the group with neither mean
        found = {"lr=0": None, "lr=1": 0.1, "lr=2": 0.2, "lr=3": 0.0 if number % 2 else 0.3}[job.overrides[0]]
        update_status(job.folder, status="finished", value=found)
    used = console()
    summarise(many, tmp_path, used, [Objective("val/mse_best", minimised)])
    rows = [line.split("│")[-2].strip() for line in text(used).splitlines() if "│" in line]
    assert rows[0] == first and rows[1] == "lr=3" and rows[3] == "lr=0" and "mean val/mse_best" in text(used)


def test_of_several_objectives_jobs_keep_their_order(jobs: list[Job], tmp_path: Path) -> None:
    for job, value in zip(jobs, ([0.1, 3], [0.9, 1]), strict=True):
        update_status(job.folder, status="finished", value=value)
    used = console()
    summarise(jobs, tmp_path, used, [Objective("val/acc_best", False), Objective("latency_ms", True)])
    assert text(used).index("0.1, 3") < text(used).index("0.9, 1") and "val/acc_best, latency_ms" in text(used)


def test_of_very_many_groups_the_first_are_told(tmp_path: Path) -> None:
    many = Sweep(tmp_path, "train", ["lr"]).jobs_for([f"lr={lr}"] for lr in range(100))
    update_status(many[0].folder, status="finished", figures={"val/acc": 0.5, "val/loss": None})
    used = console()
    summarise(many, tmp_path, used)
    assert "val/acc 0.5" in text(used) and "lr=39 " in text(used) and "lr=40 " not in text(used)
    assert "and 60 more groups" in text(used)


def test_what_a_job_tells_reaches_the_terminal_as_text(tmp_path: Path) -> None:
    escape = "\x1b]0;mine\x07[/x]"
    jobs = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1", "tags=[a]"], ["seed=2", "tags=[a]"]])
    for job in jobs:  # from untrusted files, which no sweep has written
        content = {"overrides": [*job.overrides, f"name={escape}"]}
        (job.folder / "job.json").write_text(json.dumps(content))
    update_status(jobs[0].folder, status="finished", figures={escape: 0.5}, started="2026-01-01T00:00:00+00:00")
    update_status(jobs[1].folder, status="failed", error=escape)
    used = console()
    summarise(jobs_in(tmp_path), tmp_path, used)
    with Progress(total=2) as progress:
        progress.console = used
        for job in jobs_in(tmp_path):
            progress.log(job)
    shown = text(used)
    assert "\x1b" not in shown and "\x07" not in shown and "?]0;mine?[/x] 0.5" in shown
    assert "job 1 failed: ?]0;mine?[/x]" in shown and "name=?]0;mine?[/x]" in shown
