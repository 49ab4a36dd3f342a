"""The processes of one run: which of them this is, and what they agree on before torch.distributed is set up.

Lightning starts further processes when it begins to train, and gives each its LOCAL_RANK; torchrun starts all of them,
gives each its RANK, and serves a store in which they can leave words for each other. Nothing here imports torch unless
torchrun has started this process.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

from omegaconf import OmegaConf

STARTING = timedelta(minutes=10)  # by then each process of a run has found its files and imported torch
TELLING = timedelta(seconds=10)
COUNTS = {"devices": "LOCAL_WORLD_SIZE", "nodes": "GROUP_WORLD_SIZE"}  # torchrun's words for them

_calls = count()


def in_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
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


def agree(choose: Callable[[], str]) -> str:
    """What the first process of a torchrun chooses; the others wait for it. All must ask the same in the same order.

    Raises:
        RuntimeError: the store of torchrun can't be reached, or holds no answer in time.
    """
    if not in_torchrun():
        return choose()
    key = f"choice_{next(_calls)}"
    if is_first():
        chosen = choose()
        store().set(key, chosen)
        return chosen
    return store().get(key).decode()


def tell(say: Callable[[], None]) -> None:
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


@cache
def store() -> Any:
    """The store of torchrun, with keys of our own for each time that it starts the processes."""
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    served, _, _ = next(iter(rendezvous("env://", timeout=STARTING)))
    return PrefixStore(f"lightning_hydra_lab_{os.environ['TORCHELASTIC_RESTART_COUNT']}", served)
