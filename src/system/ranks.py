"""The processes of one run: which of them this is, and what they agree on before torch.distributed is set up.

Lightning starts further processes when it begins to train, and gives each its LOCAL_RANK; torchrun starts all of them,
gives each its RANK, and serves a store in which they can leave words for each other. Nothing here imports torch unless
torchrun has started this process.
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

STARTING = timedelta(minutes=10)  # by then each process of a run has found its files and imported torch
TELLING = timedelta(seconds=10)
COUNTS = {"devices": "LOCAL_WORLD_SIZE", "nodes": "GROUP_WORLD_SIZE"}  # torchrun's words for them

_calls = count()


def in_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_rank_zero() -> bool:
    """Whether this is the process of a run that writes and speaks for all; without others it is."""
    ranks = ("RANK",) if in_torchrun() else ("NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def from_torchrun(what: str, otherwise: int) -> int:
    """The `devices` of each node or the `nodes` that torchrun was told to use; without it, what is given instead."""
    return int(os.environ[COUNTS[what]]) if in_torchrun() else otherwise


OmegaConf.register_new_resolver("torchrun", from_torchrun, replace=True)


def program() -> str:
    """What this run's script has been started with, for a command to be copied."""
    if not in_torchrun():
        return "python"
    nodes = f"--nnodes={os.environ['GROUP_WORLD_SIZE']} … " if os.environ["GROUP_WORLD_SIZE"] != "1" else ""
    return f"torchrun {nodes}--nproc-per-node={os.environ['LOCAL_WORLD_SIZE']}"


def broadcast_from_rank_zero(choose: Callable[[], str]) -> str:
    """What the first process of a torchrun chooses; the others wait for it. All must ask the same in the same order.

    Raises:
        RuntimeError: the store of torchrun can't be reached, or holds no answer in time.
    """
    if not in_torchrun():
        return choose()
    key = f"choice_{next(_calls)}"
    if is_rank_zero():
        chosen = choose()
        store().set(key, chosen)
        return chosen
    return store().get(key).decode()


def run_on_rank_zero(say: Callable[[], None]) -> None:
    """Say what ends this process, unless another of the same torchrun says already why it ends.

    The first to fail is nearest to the cause. The others wait until it has spoken, for torchrun ends all when one ends.
    """
    if not in_torchrun():
        say()
        return
    try:
        is_nearest = store().add("told", 1) == 1
    except RuntimeError:  # the node that serves the store is gone, and its processes can say nothing
        is_nearest = True
    if is_nearest:
        say()
    try:
        store().set("has_told", "") if is_nearest else store().wait(["has_told"], TELLING)
    except RuntimeError:
        return


def keep_for_restart(folder: str) -> None:
    """Let the processes of a torchrun find the run's folder, should it start them again."""
    if in_torchrun() and is_rank_zero():
        under("lasting").set("folder", folder)


def folder_before_restart() -> str | None:
    """The folder of the run whose processes torchrun has started again; None where these are the first."""
    if not is_restarted():
        return None
    kept = under("lasting")
    return kept.get("folder").decode() if kept.check(["folder"]) else None


def is_restarted() -> bool:
    """Whether torchrun has started the processes again, for one of them has died."""
    return in_torchrun() and os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"


def move_rendezvous() -> None:
    """Let processes that were started again meet at a port of their own.

    In torchrun's store torch would find the addresses of those before, and wait for them in vain.
    """
    if is_restarted():
        os.environ["MASTER_PORT"] = broadcast_from_rank_zero(free_port)
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # the first process serves it


def free_port() -> str:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("", 0))
        return str(found.getsockname()[1])


def store() -> Any:
    """The store of torchrun, with keys of our own for each time that it starts the processes."""
    return under(os.environ["TORCHELASTIC_RESTART_COUNT"])


def under(name: str) -> Any:
    """The store of torchrun, with keys of our own under a name."""
    from torch.distributed import PrefixStore

    return PrefixStore(f"lightning_hydra_lab_{name}", torchrun_store())


@cache
def torchrun_store() -> Any:
    """The store of torchrun."""
    from torch.distributed.rendezvous import rendezvous

    found, _, _ = next(iter(rendezvous("env://", timeout=STARTING)))
    return found


def print_error(sentence: str) -> None:
    """Write an error to the terminal."""
    sys.stderr.write(f"ERROR: {printable_lines(sentence)}\n")
