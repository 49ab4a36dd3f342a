"""The rank of a process, and broadcasts before torch.distributed is initialised."""

import os
from collections.abc import Callable
from itertools import count

import pytest
from omegaconf import DictConfig, OmegaConf
from torch.distributed import HashStore

from src.run.directory import ExclusiveFolder
from src.system import ranks as processes
from src.system.ranks import (
    broadcast_from_rank_zero,
    folder_before_restart,
    is_rank_zero,
    keep_for_restart,
    move_rendezvous,
    program,
    run_on_rank_zero,
)

NAMES = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Act as another process, with these variables in its environment."""

    def become_(**variables: str) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(processes, "_calls", count())

    return become_


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> HashStore:
    store = HashStore()
    monkeypatch.setattr(processes, "store", lambda: store)
    return store


class Unreachable:
    def __getattr__(self, name: str) -> None:
        raise RuntimeError("connection refused")


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),  # it has started others, with Lightning's launcher
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1"}, False),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
    ],
)
def test_one_process_of_a_run_is_the_first(variables: dict[str, str], first: bool, become: Callable[..., None]) -> None:
    become(**variables)
    assert is_rank_zero() == first


def test_all_processes_take_what_the_first_chooses(become: Callable[..., None], store: HashStore) -> None:
    become(TORCHELASTIC_RUN_ID="x", RANK="0")
    assert [broadcast_from_rank_zero(lambda: "first"), broadcast_from_rank_zero(lambda: "second")] == [
        "first",
        "second",
    ]
    become(TORCHELASTIC_RUN_ID="x", RANK="1")
    assert [broadcast_from_rank_zero(lambda: "mine"), broadcast_from_rank_zero(lambda: "mine")] == ["first", "second"]
    become()
    assert broadcast_from_rank_zero(lambda: "alone") == "alone"


def test_the_first_process_to_fail_tells_why_and_no_other(become: Callable[..., None], store: HashStore) -> None:
    told: list[str] = []
    for rank in "102":
        become(TORCHELASTIC_RUN_ID="x", RANK=rank)
        run_on_rank_zero(lambda rank=rank: told.append(rank))  # type: ignore[misc]
    assert told == ["1"]


def test_an_error_is_told_though_the_store_is_gone(
    become: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "store", Unreachable)
    become(TORCHELASTIC_RUN_ID="x", RANK="1")
    told: list[str] = []
    run_on_rank_zero(lambda: told.append("told"))
    assert told == ["told"]


def test_a_process_that_can_not_agree_ends_rather_than_train_in_a_folder_of_its_own(
    become: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "store", Unreachable)
    become(TORCHELASTIC_RUN_ID="x", RANK="1")
    with pytest.raises(SystemExit, match="connection refused"):
        ExclusiveFolder().on_run_start(OmegaConf.create({"hydra": {"run": {"dir": "x"}}}))


def test_a_sweep_under_torchrun_is_refused(
    become: Callable[..., None], store: HashStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in "01":
        become(TORCHELASTIC_RUN_ID="x", RANK=rank, LOCAL_WORLD_SIZE="2", GROUP_WORLD_SIZE="1")
        with pytest.raises(SystemExit, match="1"):
            ExclusiveFolder().on_multirun_start(OmegaConf.create())
    said = capsys.readouterr().err
    assert said.count("torchrun is for one run") == 1
    assert "; do torchrun --nproc-per-node=2 src/train.py trainer=ddp seed=$seed; done" in said


def test_processes_that_are_started_again_know_their_folder_and_meet_anew(
    become: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = HashStore()
    monkeypatch.setattr(processes, "torchrun_store", lambda: served)
    for name, value in {"MASTER_PORT": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    ports = []
    for restarts in "012":
        for rank in "01":
            become(TORCHELASTIC_RUN_ID="x", RANK=rank, TORCHELASTIC_RESTART_COUNT=restarts)
            assert folder_before_restart() == (None if restarts == "0" else "runs/mine")
            move_rendezvous()
            ports.append(os.environ["MASTER_PORT"])
            keep_for_restart("runs/mine")
    assert ports[:2] == ["1", "1"] and ports[2] == ports[3] != "1" and ports[4] == ports[5] != "1"
    assert os.environ["TORCHELASTIC_USE_AGENT_STORE"] == "False"


def test_without_torchrun_there_is_no_restart(become: Callable[..., None]) -> None:
    become()
    keep_for_restart("runs/mine")
    assert folder_before_restart() is None


def test_devices_and_nodes_follow_torchrun(become: Callable[..., None], compose: Callable[..., DictConfig]) -> None:
    trainer = compose("trainer=ddp").trainer
    become()
    assert (trainer.devices, trainer.num_nodes, program()) == (2, 1, "python")
    become(TORCHELASTIC_RUN_ID="x", RANK="0", LOCAL_WORLD_SIZE="4", GROUP_WORLD_SIZE="3")
    assert (trainer.devices, trainer.num_nodes, program()) == (4, 3, "torchrun --nnodes=3 … --nproc-per-node=4")
