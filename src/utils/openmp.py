"""What threads of OpenMP do while they wait for each other: yield soon, so that a busy machine is shared.

By default they spin, libgomp's for some milliseconds: as long as every thread has a core of its own, the next parallel
region begins a little sooner. Where other programs run, a thread spins on a core while the one it waits for has none.
"""

import os
import sys
from collections.abc import MutableMapping

# GNU's libgomp reads the first (a count of turns), LLVM's libomp and Intel's libiomp5 the second (milliseconds)
SPINNING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "0"}
POLICY = "OMP_WAIT_POLICY"  # OpenMP's own word for the same


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
