"""The CPUs that a process may use, read from fake system files."""

from pathlib import Path

import pytest

from src.system import cpu


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four logical CPUs, and no OMP_NUM_THREADS."""
    monkeypatch.setattr(cpu, "affinity", lambda: {0, 1, 2, 3})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V2 = "0::/user/job\n"
V1 = "11:memory:/job\n4:cpu,cpuacct:/job\n0::/elsewhere\n"
QUOTAS = {
    "none": ({}, None),
    "version 2, its own group": ({"proc/self/cgroup": V2, "sys/fs/cgroup/user/job/cpu.max": "150000 100000\n"}, 1.5),
    "version 2, a group above": (
        {
            "proc/self/cgroup": V2,
            "sys/fs/cgroup/user/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/user/job/cpu.max": "300000 100000\n",
        },
        0.5,
    ),
    "version 2, in a container": ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
    "version 2, no limit": ({"proc/self/cgroup": V2, "sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, None),
    "version 1": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "version 1, mounted as cpu, no limit": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
}


@pytest.mark.parametrize(("files", "expected"), QUOTAS.values(), ids=QUOTAS.keys())
def test_the_tightest_quota_of_the_control_groups_is_found(
    files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    assert cpu.cgroup_quota(write(tmp_path, files)) == expected


@pytest.mark.parametrize(("quota", "allowed", "cores"), [("150000", 2, 1), ("50000", 1, 1), ("900000", 4, 4)])
def test_a_quota_limits_threads_and_cores(
    quota: str, allowed: int, cores: int, four_cpus: None, tmp_path: Path
) -> None:
    files = {"proc/self/cgroup": V2, "sys/fs/cgroup/user/job/cpu.max": f"{quota} 100000"}
    root = write(tmp_path, files)
    assert (cpu.allowed_cpus(root), cpu.physical_cores(root)) == (allowed, cores)


def test_hardware_threads_of_one_core_count_once(four_cpus: None, tmp_path: Path) -> None:
    pairs = {0: "0,2", 2: "0,2", 1: "1,3", 3: "1,3"}
    files = {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{pair}\n" for n, pair in pairs.items()}
    root = write(tmp_path, files)
    assert (cpu.allowed_cpus(root), cpu.physical_cores(root)) == (4, 2)


def test_processes_share_the_cores(four_cpus: None, tmp_path: Path) -> None:
    assert [cpu.thread_share(processes, tmp_path) for processes in (1, 2, 3, 9)] == [4, 2, 1, 1]


def test_a_share_given_by_a_scheduler_is_kept_to(
    four_cpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert cpu.thread_share(1, tmp_path) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert cpu.thread_share(1, tmp_path) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun's own 1 is not a user's choice
    assert cpu.thread_share(2, tmp_path) == 2


@pytest.mark.parametrize("value", [0, -1, 5, "many", True, 1.5])
def test_a_wrong_number_of_threads_is_answered_with_what_is_possible(value: int | str, four_cpus: None) -> None:
    with pytest.raises(ValueError, match=rf"threads={value}: this process can use 1 to \d threads, or auto."):
        cpu.check_threads("threads", value, ("auto",))
    cpu.check_threads("threads", 1, ())
    cpu.check_threads("threads", "auto", ("auto",))


def test_what_other_programs_use_is_what_this_process_does_not(
    tmp_path: Path, four_cpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"wall": 100.0, "own": 3.0}
    monkeypatch.setattr(cpu.time, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(cpu.time, "process_time", lambda: clock["own"])
    monkeypatch.setattr(cpu.os, "sysconf", lambda name: 100)
    rows = [f"cpu{number} 100 0 50 900 7 0 0 0 0 0" for number in range(5)]
    write(tmp_path, {"proc/stat": "\n".join(["cpu 500 0 250 4500 35 0 0 0 0 0", *rows, "intr 1"])})
    others = cpu.OtherPrograms(tmp_path)
    clock |= {"wall": 110.0, "own": 8.0}
    rows[1], rows[4] = "cpu1 1100 300 150 900 99 10 10 80 0 0", "cpu4 9999 0 0 0 0 0 0 0 0 0"  # 4 is not ours
    write(tmp_path, {"proc/stat": "\n".join(rows)})
    # 15 s busy: 10 in user mode, 3 nice, 1 in the kernel, 0.1 per kind of interrupt, 0.8 stolen; 5 s are its own
    assert others.cpus() == pytest.approx(1.0)
    assert cpu.OtherPrograms(tmp_path / "no").cpus() is None
