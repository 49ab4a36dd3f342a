"""The folder of a sweep, its jobs, and their status."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from src.run.interruption import Interrupted, Pruned
from src.run.status import JOB, STATUS, facts_of, run_with_status, update_status
from src.sweeps.jobs import Sweep, key_of, mark_lost, pending_jobs
from src.system.json_files import read_json
from src.system.locks import locked


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (["lr=0.1", "seed=1"], ["seed=1", "lr=0.10"], True),
        (["tags=[a, b]"], ["tags=[a,b]"], True),
        (["+x=1"], ["x=1"], False),
        (["seed=1"], ["seed='1'"], False),
        (["~x"], ["x=null"], False),
        (["x=null"], ["x=NULL"], True),
    ],
)
def test_a_job_is_known_by_what_it_sets_however_it_is_written(one: list[str], other: list[str], equal: bool) -> None:
    assert (key_of(one) == key_of(other)) == equal


def test_how_a_job_stands(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "train", ["seed"])
    jobs = sweep.jobs_for([f"seed={seed}"] for seed in range(7))
    (waiting, *others) = jobs
    running, lost, finished, failed, interrupted, pruned = others

    def end_with(error: BaseException) -> float:
        raise error

    update_status(lost.folder, status="running")
    assert run_with_status(finished.folder, lambda: 0.5, str) == 0.5
    for job, error in {
        failed: OSError("no room"),
        interrupted: Interrupted(None, "x"),
    }.items():
        with pytest.raises(type(error)):
            run_with_status(job.folder, lambda e=error: end_with(e), str)
    assert run_with_status(pruned.folder, lambda: end_with(Pruned(0.25)), str) is None
    with locked(running.folder):
        update_status(running.folder, status="running")
        found = [job.status for job in jobs]
        assert found == ["pending", "running", "interrupted", "finished", "failed", "interrupted", "pruned"]
        assert pending_jobs(jobs, retry_failed=False) == [waiting, lost, interrupted]
        assert pending_jobs(jobs, retry_failed=True) == [waiting, lost, failed, interrupted]
    assert failed.facts["error"] == "no room" and pruned.facts["value"] == 0.25 and finished.facts["value"] == 0.5


def test_a_job_that_has_finished_is_not_done_again(tmp_path: Path) -> None:
    (job,) = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"]])
    done: list[int] = []
    for _ in range(2):
        assert run_with_status(job.folder, lambda: done.append(1) or 7.0, str) == 7.0
    assert done == [1] and job.facts["attempts"] == 1


def test_what_has_finished_is_read_once_and_what_is_written_alike_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [[f"seed={seed}"] for seed in range(3)]
    for job in Sweep(tmp_path, "train", ["seed"]).jobs_for(wanted):
        update_status(job.folder, status="finished", value=1)
    monkeypatch.setattr("src.sweeps.jobs.key_of", Mock(side_effect=AssertionError("parsed")))
    read = Mock(wraps=read_json)
    monkeypatch.setattr("src.sweeps.jobs.read_json", read)
    monkeypatch.setattr("src.run.status.read_json", read)
    jobs = Sweep(tmp_path, "train", ["seed"]).jobs_for(wanted)
    assert not pending_jobs(jobs, retry_failed=True) and [job.status for job in jobs] == ["finished"] * 3
    assert [job.facts["value"] for job in jobs] == [1] * 3
    paths = [call.args[0] for call in read.call_args_list]
    assert sorted(path.name for path in paths) == ["job.json"] * 3 + ["status.json"] * 3 + ["sweep.json"]


def test_what_other_processes_do_with_a_job_is_seen(tmp_path: Path) -> None:
    (job,) = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"]])
    found = []
    for status in ("pending", "failed", "pruned"):
        update_status(job.folder, status=status)
        found.append(job.status)
    assert found == ["pending", "failed", "pruned"]


def test_figures_that_are_no_numbers_are_null(tmp_path: Path) -> None:
    (job,) = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"]])
    run_with_status(job.folder, lambda: [float("nan"), 1.0], str)
    assert job.facts["value"] == [None, 1.0]


def test_a_run_that_is_no_job_keeps_no_status(tmp_path: Path) -> None:
    assert run_with_status(tmp_path, lambda: 1.0, str) == 1.0
    assert not list(tmp_path.iterdir())


def test_the_death_of_a_process_is_told_unless_the_job_could(tmp_path: Path) -> None:
    told, untold = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"], ["seed=2"]])
    run_with_status(told.folder, lambda: None, str)
    for job in (told, untold):
        mark_lost(job, "It died.")
    assert (told.status, untold.status, untold.facts["error"]) == ("finished", "failed", "It died.")


def test_what_names_the_sweep_is_no_part_of_its_jobs(tmp_path: Path) -> None:
    Sweep(tmp_path, "train", ["sweep", "seed"]).jobs_for([["sweep=a", "seed=1"]])
    (again,) = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"]])
    assert again.number == 0 and again.overrides == ("seed=1",)
    assert again.arguments() == ["seed=1", f"hydra.sweep.dir='{tmp_path}'", "hydra.sweep.subdir=0"]


def test_a_damaged_status_is_that_of_a_job_which_has_not_begun(tmp_path: Path) -> None:
    (job,) = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"]])
    (job.folder / STATUS).write_text('{"status": "fini')
    assert job.status == "pending"


@pytest.mark.parametrize("content", ["{}", '{"overrides": "seed=1"}', '{"overrides": [1]}', '{"overr'])
def test_a_damaged_job_is_named(content: str, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "train", ["seed"])
    (job,) = sweep.jobs_for([["seed=1"]])
    (job.folder / JOB).write_text(content)
    with pytest.raises(ValueError, match=r"0/job\.json is damaged: delete its folder"):
        sweep.jobs()


def test_other_runs_and_other_sweeps_are_refused(tmp_path: Path) -> None:
    Sweep(tmp_path / "a", "train", ["seed"])
    for task, keys in (("train", ["lr"]), ("benchmark", ["seed"]), ("train", ["seed", "lr"])):
        with pytest.raises(ValueError, match="belongs to another sweep, train over seed"):
            Sweep(tmp_path / "a", task, keys)
    (tmp_path / "b" / "0").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds other runs and no sweep\.json"):
        Sweep(tmp_path / "b", "train", ["seed"])
    assert json.loads((tmp_path / "a" / "sweep.json").read_text())["next_job"] == 0


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        '{"next_job": "1", "keys": []}',
        '{"next_job": 1, "keys": "seed"}',
        '{"next_job": 1, "keys": [1]}',
        "{",
    ],
)
def test_a_damaged_sweep_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=r"sweep.json is damaged"):
        Sweep(tmp_path, "train", ["seed"])


def test_a_status_without_a_job_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / STATUS).write_text('{"status": "finished", "value": 1}')
    assert run_with_status(tmp_path, lambda: 2, str) == 2
    (tmp_path / JOB).write_text('{"overrides": []}')
    (tmp_path / STATUS).write_text('{"status": "failed", "attempts": "x"}')
    assert run_with_status(tmp_path, lambda: 3, str) == 3 and read_json(tmp_path / STATUS)["attempts"] == 1


@pytest.mark.parametrize("status", ["weird", "[/x]", ["x"], {"a": 1}, None, 3])
def test_a_job_of_an_unknown_status_is_still_to_be_run(status: object, tmp_path: Path) -> None:
    (job,) = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"]])
    (job.folder / STATUS).write_text(json.dumps({"status": status, "epoch": 3}))
    assert job.status == "pending" and pending_jobs([job], retry_failed=False) == [job] and job.facts == {"epoch": 3}


@pytest.mark.parametrize(
    "damaged",
    [
        {"figures": {"val/acc": "0.5"}},
        {"figures": [1]},
        {"value": "0.5"},
        {"value": [{}]},
        {"epoch": "3", "max_epochs": -1, "pid": [1], "attempts": 0.5},
        {"started": "yesterday", "ended": "2026-01-01T00:00:00"},
        {"error": ["x"], "host": 3, "more": 1},
    ],
)
def test_facts_of_another_kind_are_lacking_and_the_others_stay(damaged: dict[str, object], tmp_path: Path) -> None:
    (job,) = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"]])
    (job.folder / STATUS).write_text(json.dumps({"status": "failed", **damaged}))
    assert job.facts == {"status": "failed"} and not set(damaged) & set(facts_of(job.folder))


@pytest.mark.parametrize("next_job", [0, -5, 1])
def test_a_new_job_never_takes_the_folder_of_another(next_job: int, tmp_path: Path) -> None:
    (first, *_) = Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=1"], ["seed=2"]])
    content = {**read_json(tmp_path / "sweep.json"), "next_job": next_job}
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    numbers = [job.number for job in Sweep(tmp_path, "train", ["seed"]).jobs_for([["seed=3"], ["seed=4"]])]
    assert numbers == [2, 3] and read_json(first.folder / JOB)["overrides"] == ["seed=1"]
