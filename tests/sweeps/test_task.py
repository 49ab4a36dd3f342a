"""The configuration of a job is the one that Hydra composes, however it was made."""

from collections.abc import Iterator
from unittest.mock import Mock

import hydra
import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from src.config.paths import CONFIGS
from src.sweeps.task import Task, template


@pytest.fixture
def task() -> Iterator[Task]:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        words = ["seed=1,2", "hydra.sweeper.n_jobs=2"]
        config = loader.load_configuration("train", words, run_mode=RunMode.MULTIRUN)
        yield Task(HydraContext(loader, Callbacks()), Mock(), config)


SEVERAL = [
    ["seed=1", "model.optimizer.lr=0.1", "+new=1", "++other=2", "tags=[a]", "hydra.sweep.subdir=0"],
    ["seed=2", "model.optimizer.lr=1e-3", "+new=-1.5", "++other=3", "tags=[a]", "hydra.sweep.subdir=1"],
    ["seed=3", "model.optimizer.lr=1", "+new=0", "++other=0", "tags=[b]", "hydra.sweep.subdir=2"],
    ["seed=4", "model=mnist_cnn_68k", "model.optimizer.lr=1"],
    ["seed=null", "model=mnist_cnn_68k", "model.optimizer.lr=2"],
    ["seed=5", "model=mnist_cnn_68k", "model.optimizer.lr=3"],
    ["model=mnist_cnn_68k", "model.optimizer.lr=4", "seed=6"],
]


def test_a_job_has_the_configuration_that_hydra_composes(task: Task) -> None:
    loader = task.hydra_context.config_loader
    expected = [OmegaConf.to_yaml(loader.load_sweep_config(task.config, words)) for words in SEVERAL]
    found = []
    for words in SEVERAL:
        config = task.compose(words)
        found.append(OmegaConf.to_yaml(config))
        config.hydra.job.num = 77  # changes to one do not affect the next
        config.tags.append("mine")
    assert found == expected


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.max_epochs=3", "trainer={max_epochs:5}"],
        ["seed=1", "seed=null"],
        ["trainer.max_epochs=3", "~trainer.max_epochs"],
        ["+new.part=1", "new={part:2}"],
        ["seed=1", "seed=2"],
    ],
    ids=str,
)
def test_of_overrides_of_one_key_the_last_wins(words: list[str], task: Task) -> None:
    expected = task.hydra_context.config_loader.load_sweep_config(task.config, words)
    assert OmegaConf.to_yaml(task.compose(words)) == OmegaConf.to_yaml(expected)


def test_jobs_that_differ_by_numbers_are_composed_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = task.hydra_context.config_loader
    composed = Mock(wraps=loader.load_sweep_config)
    monkeypatch.setattr(loader, "load_sweep_config", composed)
    for number in range(20):
        assert task.compose([f"seed={number}", "data=mnist_5k"]).seed == number
    assert composed.call_count == 1


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("seed=3", "seed=<number>"),
        ("+model.net.x=1e-3", "+model.net.x=<number>"),
        ("seed=three", "seed=three"),
        ("tags=[1]", "tags=[1]"),
        ("model=3", "model=3"),  # a file's name
        ("data@test=3", "data@test=3"),
        ("~seed=3", "~seed=3"),
    ],
)
def test_what_composing_depends_on(word: str, found: str) -> None:
    assert template(word) == found
