"""What this process may use of the machine's processor."""

import logging
import math
import os
import time
from pathlib import Path

from src.system.ranks import in_torchrun

log = logging.getLogger(__name__)

SYSFS, PROC = "sys/fs/cgroup", "proc/self/cgroup"


def allowed_cpus(root: Path = Path("/")) -> int:
    """The logical CPUs that the affinity mask and the control group's quota let this process use, at least 1.

    A quota of 1.5 CPUs counts as 2: that many threads can run at once, for some of the time.
    """
    count = len(affinity())
    quota = cgroup_quota(root)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def physical_cores(root: Path = Path("/")) -> int:
    """How many threads can compute without sharing a core or being held up by a quota, at least 1.

    Two hardware threads of one core share its arithmetic units; matrix products gain nothing from the second.
    """
    cores = {core_of(cpu, root) for cpu in affinity()}
    quota = cgroup_quota(root)
    return len(cores) if quota is None else max(1, min(len(cores), math.floor(quota)))


def affinity() -> set[int]:
    """The numbers of the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))  # macOS and Windows know no such mask


def load_average() -> float | None:
    """How many threads ran or waited for a processor in the last minute; None on Windows, which does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def core_of(cpu: int, root: Path) -> str:
    """A name for the physical core that a CPU belongs to: the list of its hardware threads."""
    siblings = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    return siblings.read_text().strip() if siblings.is_file() else str(cpu)


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """The CPUs that the control groups of this process grant it, as containers set them; None without a limit.

    Both versions are read, in the group itself and in all above it, for the tightest limit holds
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
            group = mount / path.lstrip("/")  # within a container it may be the host's, not to be found there
            quotas += [read_quota(folder) for folder in (group, *group.parents) if folder.is_relative_to(mount)]
    limits = [quota for quota in quotas if quota is not None]
    return min(limits) if limits else None


def read_quota(group: Path) -> float | None:
    """The limit that one control group's files state, in CPUs; None where they state none."""
    if (group / "cpu.max").is_file():
        quota, _, period = (group / "cpu.max").read_text().strip().partition(" ")
    elif (group / "cpu.cfs_quota_us").is_file():
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period or 100_000)


def thread_share(processes: int = 1, root: Path = Path("/")) -> int:
    """The threads that one of several processes on this machine should compute with, at least 1.

    `OMP_NUM_THREADS`, by which a scheduler or a launcher of parallel jobs gives each job its share, is kept to; but for
    the 1 that torchrun sets for want of anything better.
    """
    share = max(1, physical_cores(root) // processes)
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0 and not in_torchrun():
        return min(share, int(given))
    return share


def check_threads(name: str, value: int | str, words: tuple[str, ...]) -> None:
    """Check a number of threads, or one of the words that may stand for it.

    Raises:
        ValueError: names the value and what is allowed.
    """
    if isinstance(value, str) and value in words:
        return
    allowed = allowed_cpus()
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= allowed:
        others = "".join(f", or {word}" for word in words)
        raise ValueError(f"{name}={value}: this process can use 1 to {allowed} threads{others}.")


def has_native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers itself; elsewhere torch emulates it, slowly."""
    flags = ("avx512_bf16", "amx_bf16", "bf16")  # of x86 and of Arm
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        words = cpuinfo.read_text().split()
        return any(flag in words for flag in flags)
    import torch  # here, for what divides the cores among jobs does without it

    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_if_emulated() -> None:
    """Measure what bfloat16 costs on a CPU that does not have it, and say so."""
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
