"""For a key that does not exist, the intended one is suggested."""

import hydra
import pytest
from hydra.errors import ConfigCompositionException

from src.cli.errors import describe
from src.config.paths import CONFIGS
from src.system.wording import first_line, suggest, suggest_key

MEANT = {
    "trainer.datamodule.batch_size=64": "data.batch_size",
    "datamodule.batch_size=64": "data.batch_size",
    "batch_size=64": "data.batch_size",
    "batchsize=64": "data.batch_size",
    "lr=0.1": "model.optimizer.lr",
    "model.lr=0.1": "model.optimizer.lr",
    "optimizer.lr=0.1": "model.optimizer.lr",
    "learning_rate=0.1": "model.optimizer.lr",
    "max_epochs=3": "trainer.max_epochs",
    "epochs=3": "trainer.max_epochs",
    "early_stopping.patience=3": "callbacks.early_stopping.patience",
    "optimizer=sgd": "model/optimizer=sgd",
    "scheduler=plateau": "model/scheduler=plateau",
    "datamodule=x": "data",
    "datamodule=mnist": "data=mnist",
    "dataset=cifar10": "data=cifar10",
    "network=mnist_cnn_68k": "model=mnist_cnn_68k",
    "data.batch=3": "data.batch_size",
    "modle.net.x=3": "model.net",
}


@pytest.mark.parametrize("written", MEANT)
def test_the_key_that_was_meant_is_named_wherever_it_lies(written: str) -> None:
    with (
        hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"),
        pytest.raises(ConfigCompositionException) as error,
    ):
        hydra.compose("train", [written])
    sentence = describe(error.value, "train", [written])
    assert f"There is no {written.partition('=')[0]} in the configuration. Did you mean {MEANT[written]}?" in sentence


def test_where_nothing_is_near_the_keys_beside_it_are_named() -> None:
    keys = ["data", "data.size", "data.seed", "model"]
    assert suggest_key("data.qqq", keys) == " Available: data.size, data.seed."
    assert suggest_key("qqq", keys) == " Available: data, model."
    assert suggest("qqq", ["a", "b"]) == " Available: a, b."
    assert suggest("qqq", []) == ""


def test_keys_that_end_as_was_written_come_before_others() -> None:
    keys = ["a.rate", "b", "b.optimizer", "b.optimizer.rate"]
    assert suggest_key("optimizer.rate", keys) == " Did you mean b.optimizer.rate?"
    assert suggest_key("rate", keys) == " Did you mean a.rate, b.optimizer.rate?"


@pytest.mark.parametrize(
    ("message", "line"), [("one\ntwo", "one"), ("\n one \n", "one"), ("", "OSError"), (" \n", "OSError")]
)
def test_an_error_is_told_by_its_first_line_or_its_type(message: str, line: str) -> None:
    assert first_line(OSError(message)) == line
