"""What OpenMP threads do while they wait for each other: spin where they have the cores to themselves, sleep elsewhere.

A thread that spins starts the next parallel region a little sooner. Where other programs run, it spins on a core that
the thread it waits for cannot get: two trainings on two cores then take twice the time of one after the other.
"""

import ctypes
import os
import sys
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from src.system.cpu import affinity

# GNU's libgomp reads the first (a number of turns), LLVM's libomp and Intel's libiomp5 the second (milliseconds)
SPINNING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "0"}
POLICY = "OMP_WAIT_POLICY"  # OpenMP's own word for the same

TASKS = Path("/proc/self/task")
INTERVAL = 0.5  # seconds between two looks at how long threads have waited for a core
# seconds that they waited, each second, all together: 0.01 on a quiet machine, 0.6 to 0.9 beside another training
CONTENDED, QUIET = 0.15, 0.05
QUIET_INTERVALS = 4  # in a row before threads spin again


def let_waiting_threads_yield(environment: MutableMapping[str, str] | None = None) -> None:
    """Set the environment for the OpenMP runtime that torch will load; what the user has set stays.

    The runtime reads it once, when it is loaded: after the import of torch this does nothing. Processes started
    later inherit it.
    """
    environment = os.environ if environment is None else environment
    if "torch" in sys.modules or POLICY in environment:
        return
    for name, value in SPINNING.items():
        environment.setdefault(name, value)


@cache
def watch_contention() -> None:
    """Let OpenMP threads of this process sleep at once, rather than spin, while other programs want its cores.

    Results do not depend on it. It works where torch runs on GNU's libgomp and Linux tells how long threads have waited
    for a core; elsewhere it does nothing, and so it does where the user has set how threads wait.
    """
    if os.environ.get("GOMP_SPINCOUNT") == SPINNING["GOMP_SPINCOUNT"] and run_delays():
        threading.Thread(target=Throttle().run, name="contention", daemon=True).start()


def libgomp() -> ctypes.CDLL | None:
    """GNU's OpenMP runtime, if this process has loaded it."""
    with suppress(OSError, AttributeError):  # it has not; Windows has no such mode
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
    return None


def run_delays() -> dict[str, int]:
    """The nanoseconds that each thread of this process has waited for a core so far; none where nobody counts them."""
    delays = {}
    for path in TASKS.glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended meanwhile
            delays[path.parent.name] = int(path.read_text().split()[1])
    return delays


class Throttle:
    """Switches between spinning and sleeping as threads of this process get the cores that they want, or do not.

    libgomp has no such switch at run time, but it counts: where it manages more threads than there are CPUs, those that
    wait spin for 100 turns and then sleep (its manual, GOMP_SPINCOUNT). So one team more, which has nothing to do, is
    the switch; it ends with the thread that has started it.
    """

    def __init__(self) -> None:
        self._delays = run_delays()
        self._quiet = 0  # intervals in a row
        self._release: threading.Event | None = None  # ends the team that is one too many

    @property
    def throttled(self) -> bool:
        """Whether threads that wait go to sleep."""
        return self._release is not None

    def run(self) -> None:
        """Look again and again, for as long as the process lives."""
        pause = threading.Event()
        while not pause.wait(INTERVAL):
            if libgomp() is not None:  # before torch is imported no thread waits
                self.update(run_delays(), INTERVAL)

    def update(self, delays: dict[str, int], seconds: float) -> None:
        """Take in how long threads have waited, in nanoseconds each, some seconds after the last time."""
        waited = sum(max(0, delay - self._delays.get(name, delay)) for name, delay in delays.items()) / 1e9 / seconds
        self._delays = delays
        self._quiet = self._quiet + 1 if waited < QUIET else 0
        if waited >= CONTENDED:
            self.throttle()
        elif self._quiet >= QUIET_INTERVALS:
            self.release()

    def throttle(self) -> None:
        """Let threads that wait go to sleep."""
        if self._release is None:
            self._release, started = threading.Event(), threading.Event()
            options = {"args": (self._release, started), "name": "idle team", "daemon": True}
            threading.Thread(target=hold_team, **options).start()  # type: ignore[arg-type]
            started.wait()

    def release(self) -> None:
        """Let threads that wait spin again."""
        if self._release is not None:
            self._release.set()
            self._release = None


def hold_team(release: threading.Event, started: threading.Event) -> None:
    """Keep a team of threads with nothing to do, one more than there are CPUs, until it is released."""
    runtime = libgomp()
    assert runtime is not None
    nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # of a null pointer: the parallel region's work
    runtime.GOMP_parallel(nothing, None, len(affinity()) + 1, 0)
    started.set()
    release.wait()
