"""The CPUs, threads and precision that this process can use."""

import logging
import math
import os
import time
from pathlib import Path

from src.system.ranks import in_torchrun

log = logging.getLogger(__name__)

SYSFS, PROC = "sys/fs/cgroup", "proc/self/cgroup"


def allowed_cpus(root: Path = Path("/")) -> int:
    """Return how many logical CPUs the affinity mask and the cgroup quota allow this process, at least 1.

    A quota is rounded up: with 1.5 CPUs, 2 threads can run at once for some of the time.
    """
    count = len(affinity())
    quota = cgroup_quota(root)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def physical_cores(root: Path = Path("/")) -> int:
    """Return how many threads can compute without sharing a core or exceeding the cgroup quota, at least 1.

    Hardware threads of one core share its arithmetic units: a second one does not speed up matrix products.
    """
    cores = {core_of(cpu, root) for cpu in affinity()}
    quota = cgroup_quota(root)
    return len(cores) if quota is None else max(1, min(len(cores), math.floor(quota)))


def affinity() -> set[int]:
    """Return the numbers of the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))  # macOS and Windows have no affinity mask


def load_average() -> float | None:
    """Return the load average of the last minute; None on Windows."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


class OtherPrograms:
    """Measure how much other programs use the CPUs of this process, from construction on.

    Args:
        root: the root of the file system.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.before = self.times()

    def cpus(self) -> float | None:
        """Return the mean number of CPUs that they kept busy since the start; None if this is not Linux."""
        now = self.times()
        if self.before is None or now is None:
            return None
        wall, busy, own = (after - before for before, after in zip(self.before, now, strict=True))
        return max(busy - own, 0.0) / wall if wall > 0 else 0.0

    def times(self) -> tuple[float, float, float] | None:
        """Return the seconds of wall-clock time, of busy time of these CPUs, and of CPU time of this process."""
        file = self.root / "proc/stat"
        if not file.is_file():
            return None
        names = {f"cpu{number}" for number in affinity()}
        rows = [row.split() for row in file.read_text().splitlines() if row.split(" ", 1)[0] in names]
        # ticks in user, nice, system, idle, iowait, irq, softirq and steal mode
        busy = sum(int(ticks) for row in rows for ticks in (*row[1:4], *row[6:9]))
        return time.perf_counter(), busy / os.sysconf("SC_CLK_TCK"), time.process_time()


def core_of(cpu: int, root: Path) -> str:
    """Identify the physical core of a CPU by the list of its hardware threads."""
    siblings = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    return siblings.read_text().strip() if siblings.is_file() else str(cpu)


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Return the CPU quota of this process's control groups, which containers set; None without a limit.

    The tightest limit of the group and its parents applies, in either version of cgroups
    (https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max;
    https://docs.kernel.org/scheduler/sched-bwc.html, cpu.cfs_quota_us).
    """
    memberships = root / PROC
    if not memberships.is_file():
        return None
    quotas = []
    for line in memberships.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2: one hierarchy
            mounts = [root / SYSFS]
        elif "cpu" in controllers.split(","):
            mounts = [root / SYSFS / name for name in (controllers, "cpu")]
        else:
            continue
        for mount in mounts:
            group = mount / path.lstrip("/")  # in a container this may be a path of the host
            quotas += [read_quota(folder) for folder in (group, *group.parents) if folder.is_relative_to(mount)]
    limits = [quota for quota in quotas if quota is not None]
    return min(limits) if limits else None


def read_quota(group: Path) -> float | None:
    """Return the quota of one control group in CPUs; None without a limit."""
    if (group / "cpu.max").is_file():
        quota, _, period = (group / "cpu.max").read_text().strip().partition(" ")
    elif (group / "cpu.cfs_quota_us").is_file():
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period or 100_000)


def thread_share(processes: int = 1, root: Path = Path("/")) -> int:
    """Return the number of threads for each of several processes on this machine, at least 1.

    `OMP_NUM_THREADS` is an upper limit, except for the default of 1 that torchrun sets.
    """
    share = max(1, physical_cores(root) // processes)
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0 and not in_torchrun():
        return min(share, int(given))
    return share


def check_threads(name: str, value: int | str, words: tuple[str, ...]) -> None:
    """Raise ValueError unless a value is a possible number of threads or one of `words`."""
    if isinstance(value, str) and value in words:
        return
    allowed = allowed_cpus()
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= allowed:
        others = "".join(f", or {word}" for word in words)
        raise ValueError(f"{name}={value}: this process can use 1 to {allowed} threads{others}.")


def has_native_bf16() -> bool:
    """Return whether this CPU has instructions for bfloat16, which torch otherwise emulates slowly."""
    flags = ("avx512_bf16", "amx_bf16", "bf16")  # flags of x86 and of Arm
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        words = cpuinfo.read_text().split()
        return any(flag in words for flag in flags)
    import torch  # here, because launchers that only count cores do not need it

    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_if_emulated() -> None:
    """Warn if this CPU emulates bfloat16, with the measured slowdown."""
    if has_native_bf16():
        return
    import torch

    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(512, 512, dtype=dtype)
        a @ a
        start = time.perf_counter()
        for _ in range(5):
            a @ a
        seconds[dtype] = time.perf_counter() - start
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    log.warning(
        "This CPU emulates bfloat16: a matrix product takes %.1f times as long as in float32 (precision=32-true).",
        ratio,
    )
