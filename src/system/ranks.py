"""Ranks of a distributed run, and broadcasts among them before torch.distributed is initialised.

Lightning launches further processes when training starts and sets LOCAL_RANK; torchrun launches all of them, sets RANK,
and serves a key-value store. Nothing here imports torch unless torchrun has launched this process.
"""

import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

from omegaconf import OmegaConf

from src.system.safe_files import printable_lines

START_TIMEOUT = timedelta(minutes=10)  # time for all processes to find their files and import torch
REPORT_TIMEOUT = timedelta(seconds=10)
COUNTS = {"devices": "LOCAL_WORLD_SIZE", "nodes": "GROUP_WORLD_SIZE"}  # torchrun's environment variables

_calls = count()


def in_torchrun() -> bool:
    """Return whether torchrun has launched this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_rank_zero() -> bool:
    """Return whether this is rank zero, which writes and logs; a single process always is."""
    ranks = ("RANK",) if in_torchrun() else ("NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def from_torchrun(name: str, default: int) -> int:
    """Return torchrun's number of `devices` per node or of `nodes`; the default if torchrun is not used."""
    return int(os.environ[COUNTS[name]]) if in_torchrun() else default


OmegaConf.register_new_resolver("torchrun", from_torchrun, replace=True)


def program() -> str:
    """Return the program that launched this script, for commands that users copy."""
    if not in_torchrun():
        return "python"
    nodes = f"--nnodes={os.environ['GROUP_WORLD_SIZE']} … " if os.environ["GROUP_WORLD_SIZE"] != "1" else ""
    return f"torchrun {nodes}--nproc-per-node={os.environ['LOCAL_WORLD_SIZE']}"


def broadcast_from_rank_zero(choose: Callable[[], str]) -> str:
    """Return the value that rank zero chooses, under torchrun. All ranks must make these calls in the same order.

    Raises:
        RuntimeError: the store of torchrun can't be reached, or the wait times out.
    """
    if not in_torchrun():
        return choose()
    key = f"choice_{next(_calls)}"
    if is_rank_zero():
        chosen = choose()
        store().set(key, chosen)
        return chosen
    return store().get(key).decode()


def run_on_rank_zero(report: Callable[[], None]) -> None:
    """Report why this process ends, unless another rank has reported already.

    The first rank to fail is closest to the cause. The others wait for its report, because torchrun ends all ranks when
    one ends.
    """
    if not in_torchrun():
        report()
        return
    try:
        is_first = store().add("reports", 1) == 1
    except RuntimeError:  # the node that serves the store is gone, and its ranks cannot report
        is_first = True
    if is_first:
        report()
    try:
        store().set("reported", "") if is_first else store().wait(["reported"], REPORT_TIMEOUT)
    except RuntimeError:
        return


def keep_for_restart(folder: str) -> None:
    """Store the run's folder in case torchrun restarts the processes."""
    if in_torchrun() and is_rank_zero():
        prefixed_store("lasting").set("folder", folder)


def folder_before_restart() -> str | None:
    """Return the folder of the run whose processes torchrun has restarted; None without a restart."""
    if not is_restarted():
        return None
    lasting_store = prefixed_store("lasting")
    return lasting_store.get("folder").decode() if lasting_store.check(["folder"]) else None


def is_restarted() -> bool:
    """Return whether torchrun has restarted the processes because one of them died."""
    return in_torchrun() and os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"


def move_rendezvous() -> None:
    """Give restarted processes a rendezvous port of their own.

    In the store of torchrun, torch would find the addresses of the previous processes and wait for them forever.
    """
    if is_restarted():
        os.environ["MASTER_PORT"] = broadcast_from_rank_zero(free_port)
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # rank zero serves it


def free_port() -> str:
    """Return an unused port."""
    with socket.socket() as listening:
        listening.bind(("", 0))
        return str(listening.getsockname()[1])


def store() -> Any:
    """Return the store of torchrun, with separate keys for each restart."""
    return prefixed_store(os.environ["TORCHELASTIC_RESTART_COUNT"])


def prefixed_store(name: str) -> Any:
    """Return the store of torchrun, with a prefix for our keys."""
    from torch.distributed import PrefixStore

    return PrefixStore(f"lightning_hydra_lab_{name}", torchrun_store())


@cache
def torchrun_store() -> Any:
    """Return the store of torchrun."""
    from torch.distributed.rendezvous import rendezvous

    shared, _, _ = next(iter(rendezvous("env://", timeout=START_TIMEOUT)))
    return shared


def print_error(sentence: str) -> None:
    """Write an error to the terminal."""
    sys.stderr.write(f"ERROR: {printable_lines(sentence)}\n")
