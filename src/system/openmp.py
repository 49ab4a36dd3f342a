"""Let idle OpenMP threads spin on a quiet machine and sleep on a busy one.

A spinning thread starts the next parallel region a little sooner, but next to others it blocks the core that the
thread it waits for needs: two training runs on two cores then take twice the time of one after the other.
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
POLICY = "OMP_WAIT_POLICY"  # OpenMP's own variable

TASKS = Path("/proc/self/task")
INTERVAL = 0.5  # seconds between two measurements
# seconds that all threads together wait for a core, each second: 0.01 on a quiet machine, 0.6 to 0.9 on a busy one
CONTENDED, QUIET = 0.15, 0.05
QUIET_INTERVALS = 4  # quiet intervals in a row before threads spin again


def let_waiting_threads_yield(environment: MutableMapping[str, str] | None = None) -> None:
    """Set the environment of the OpenMP runtime and of later processes; the user's own values stay.

    The runtime reads it when it is loaded: after the import of torch this does nothing.
    """
    environment = os.environ if environment is None else environment
    if "torch" in sys.modules or POLICY in environment:
        return
    for name, value in SPINNING.items():
        environment.setdefault(name, value)


@cache
def watch_contention() -> None:
    """Let idle OpenMP threads of this process sleep rather than spin while other programs need its cores.

    Results do not depend on it. It needs GNU's libgomp and Linux's scheduler statistics, and does nothing if the user
    has set how threads wait.
    """
    if os.environ.get("GOMP_SPINCOUNT") == SPINNING["GOMP_SPINCOUNT"] and run_delays():
        threading.Thread(target=Throttle().run, name="contention", daemon=True).start()


def libgomp() -> ctypes.CDLL | None:
    """Return GNU's OpenMP runtime, if this process has loaded it."""
    with suppress(OSError, AttributeError):  # not loaded; Windows has no such mode
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
    return None


def run_delays() -> dict[str, int]:
    """Return the nanoseconds that each thread of this process has waited for a core; empty if they are not counted."""
    delays = {}
    for path in TASKS.glob("*/schedstat"):
        with suppress(OSError):  # the thread has ended meanwhile
            delays[path.parent.name] = int(path.read_text().split()[1])
    return delays


class Throttle:
    """Switch between spinning and sleeping by how long threads of this process wait for cores.

    libgomp has no such switch at run time, but when it manages more threads than there are CPUs, idle ones spin for 100
    turns and then sleep (its manual, GOMP_SPINCOUNT). So an additional idle team is the switch; it ends with the
    thread that started it.
    """

    def __init__(self) -> None:
        self._delays = run_delays()
        self._quiet = 0  # intervals in a row
        self._release: threading.Event | None = None  # ends the additional team

    @property
    def throttled(self) -> bool:
        """Whether idle threads sleep."""
        return self._release is not None

    def run(self) -> None:
        """Measure at every interval until the process ends."""
        pause = threading.Event()
        while not pause.wait(INTERVAL):
            if libgomp() is not None:  # otherwise torch is not imported yet
                self.update(run_delays(), INTERVAL)

    def update(self, delays: dict[str, int], seconds: float) -> None:
        """Update from the nanoseconds that each thread has waited, `seconds` after the last update."""
        waited = sum(max(0, delay - self._delays.get(name, delay)) for name, delay in delays.items()) / 1e9 / seconds
        self._delays = delays
        self._quiet = self._quiet + 1 if waited < QUIET else 0
        if waited >= CONTENDED:
            self.throttle()
        elif self._quiet >= QUIET_INTERVALS:
            self.release()

    def throttle(self) -> None:
        """Let idle threads sleep."""
        if self._release is None:
            self._release, started = threading.Event(), threading.Event()
            options = {"args": (self._release, started), "name": "idle team", "daemon": True}
            threading.Thread(target=hold_team, **options).start()  # type: ignore[arg-type]
            started.wait()

    def release(self) -> None:
        """Let idle threads spin again."""
        if self._release is not None:
            self._release.set()
            self._release = None


def hold_team(release: threading.Event, started: threading.Event) -> None:
    """Keep a team of idle threads, one more than there are CPUs, until `release` is set."""
    runtime = libgomp()
    assert runtime is not None
    no_op = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # called with a null pointer
    runtime.GOMP_parallel(no_op, None, len(affinity()) + 1, 0)
    started.set()
    release.wait()
