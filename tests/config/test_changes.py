"""Changes to a composed configuration become overrides that reproduce it."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from src.config.changes import overrides_of

BASE = {"lr": 0.1, "data": {"size": 1, "names": ["a"], "path": "${lr}"}, "logger": {"csv": {"x": 1}}, "tags": ["dev"]}


def base(*_: str) -> DictConfig:
    return OmegaConf.create({**BASE, "hydra": {"overrides": {"task": ["data=one"]}}})


def change(cfg: DictConfig, key: str, value: Any) -> None:
    with open_dict(cfg):
        OmegaConf.update(cfg, key, value, merge=False)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lr", 1e-5, ["lr=1e-05"]),
        ("lr", 0.1, []),
        ("data.size", None, ["data.size=null"]),
        ("data.names", ["a b", "c"], ["data.names=['a b','c']"]),
        ("data.path", "${data.size}/x", ['data.path="${data.size}/x"']),
        ("data.path", "a, b", ["data.path='a, b'"]),
        ("data.new", True, ["+data.new=true"]),
        ("logger", None, ["logger=null"]),
        ("data.names", {"k": 1}, ["data.names={k:1}"]),
        ("data.size", 1.0, ["data.size=1.0"]),
        ("data.size", True, ["data.size=true"]),
    ],
    ids=["number", "same", "null", "list", "reference", "quoted", "added", "group", "mapping", "float", "truth"],
)
def test_a_change_is_written_as_an_override(key: str, value: Any, expected: list[str]) -> None:
    cfg = base()
    change(cfg, key, value)
    assert overrides_of(cfg, base) == ["data=one", *expected]


def test_what_was_removed_is_removed() -> None:
    cfg = base()
    with open_dict(cfg):
        del cfg.data["size"]
    assert overrides_of(cfg, base) == ["data=one", "~data.size"]


def test_written_overrides_compose_the_changed_configuration(compose: Callable[..., DictConfig]) -> None:
    words = ["model=mnist_sdn_8k", "data=synthetic"]

    def with_words(*given: str) -> DictConfig:
        cfg = compose(*given)
        with open_dict(cfg):
            cfg.hydra = {"overrides": {"task": [*given]}}
        return cfg

    cfg = with_words(*words)
    cfg.model.net.hidden_sizes, cfg.tags, cfg.model.scheduler = [3, 4], ["it's", "$x"], None
    cfg.data.batch_size = "${data.num_classes}"
    again = with_words(*overrides_of(cfg, with_words))
    contents = [OmegaConf.to_container(one) for one in (again, cfg)]
    for content in contents:
        del content["hydra"]
    assert contents[0] == contents[1]


def test_what_cannot_be_written_is_refused() -> None:
    cfg = base()
    change(cfg, "logger", "csv")
    with pytest.raises(ValueError, match="logger is a group, whose files are chosen by compose"):
        overrides_of(cfg, base)
    for foreign in (OmegaConf.create(BASE), BASE, None):
        with pytest.raises(ValueError, match="does not record its overrides"):
            overrides_of(foreign, base)
