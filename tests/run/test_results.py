"""The values by which the HParams tab and other loggers compare runs."""

import pytest
from omegaconf import OmegaConf

from src.config.stored_config import to_stored
from src.run.results import hyperparameters


def test_values_are_told_by_dotted_names_and_the_environment_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    net = {"_target_": "a.Net", "sizes": [1, 2], "name": "${note}", "dropout": None}
    model = {"_target_": "a.Task", "net": net, "optimizer": {"lr": 0.1}, "compile": True}
    config = to_stored(OmegaConf.create({"note": "${oc.env:TOKEN}", "seed": 3, "model": model, "tags": ["x"]}))
    assert hyperparameters(config) == {
        "seed": 3,
        "model.net.sizes": "[1, 2]",
        "model.net.dropout": "None",
        "model.optimizer.lr": 0.1,
    }
