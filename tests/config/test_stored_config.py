"""A stored configuration has no interpolations, and is treated as plain data when read."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from src.config.paths import ROOT
from src.config.stored_config import MAX_CHARACTERS, MAX_DEPTH, leaves, plain_config, to_stored


def read(config: Any, run_dir: Path = Path("/runs/7")) -> dict[str, Any]:
    return plain_config(config, "run.yaml", run_dir)


def test_everything_is_resolved_when_it_is_stored(compose: Callable[..., DictConfig]) -> None:
    stored = to_stored(compose("model=mnist_cnn_68k", "experiment=quickstart"))
    assert not [key for key, value in leaves(stored, "") if "${" in str(value)]
    assert stored["model"]["net"]["num_classes"] == 10 and stored["data"]["seed"] == 42
    assert read(stored) == stored


def test_the_environment_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    cfg = OmegaConf.create({"a": "${oc.env:TOKEN}", "b": "x${a}", "c": ["${b}"], "d": "${oc.env:NO_SUCH,1}", "e": 1})
    assert to_stored(cfg) == {"a": "???", "b": "???", "c": ["???"], "d": "???", "e": 1}


@pytest.mark.parametrize(
    "text", ["${oc.env:TOKEN,${e}}", "${oc.env:${name}}", "${oc.decode:${oc.env:TOKEN}}", "${table.${oc.env:TOKEN}}"]
)
def test_nor_is_it_where_interpolations_are_nested(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    cfg = OmegaConf.create({"a": text, "b": "${oc.decode:${a}}", "e": "1", "name": "TOKEN", "table": {"secret": 1}})
    assert to_stored(cfg) == {"a": "???", "b": "???", "e": "1", "name": "TOKEN", "table": {"secret": 1}}


def test_classes_are_counted_in_a_folder_that_the_environment_names(
    compose: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PHOTOS", str(tmp_path))
    stored = to_stored(compose("data=image_folder", "model=hybrid_light", "data.folder=${oc.env:PHOTOS}"))
    assert (stored["data"]["folder"], stored["data"]["num_classes"], stored["model"]["net"]["num_classes"]) == (
        "???",
        3,
        3,
    )


def test_runs_of_former_versions_are_resolved() -> None:
    config = {
        "seed": 7,
        "sweep": "${now:%Y}_${now:%H}",
        "paths": {
            "root_dir": "${project_root:}",
            "output_dir": "${hydra:runtime.output_dir}",
            "data": "${oc.env:X,${seed}}/d",
        },
        "data": {"seed": "${seed}", "shape": ["${data.size}", "${data.size}"], "size": 3, "folder": "${paths.data}"},
        "model": {"dirpath": "${paths.output_dir}/x", "data": "${data}", "devices": "${torchrun:devices,2}"},
    }
    found = read(config)
    assert found["paths"] == {"root_dir": str(ROOT), "output_dir": "/runs/7", "data": "???"}
    assert found["data"] == {"seed": 7, "shape": [3, 3], "size": 3, "folder": "???"}
    assert found["model"] == {"dirpath": "/runs/7/x", "data": found["data"], "devices": 2}


REFUSED = [
    "${oc.create:{_target_: os.mkdir}}",
    "a ${oc.decode:'{}'}",
    "${ oc.dict.values:x}",
    "${oc.${key}:{_target_: os.mkdir}}",
    "${${key}.create:{a: 1}}",
    "${eval:1}",
    "${hydra:runtime.cwd}",
    "${a",
    "\\${a}",
    "${torchrun:devices,999999999}",
    "${no_such_key}",
    "${.key}",
    "${a[0]}",
]


@pytest.mark.parametrize("text", REFUSED)
def test_any_other_interpolation_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"run.yaml is refused: model.x=.* is an interpolation"):
        read({"key": "create", "model": {"x": text}})
    with pytest.raises(ValueError, match=r"run.yaml is refused: "):
        read({"key": "create", "model": {"x": {text: 1}}})
    with pytest.raises(ValueError, match=r"run.yaml is refused: "):
        read({"key": text, "model": {"x": "${key}"}})


def test_references_that_go_round_or_multiply_are_refused() -> None:
    with pytest.raises(ValueError, match="is refused"):
        read({"a": "${b}", "b": "x${a}"})
    with pytest.raises(ValueError, match="is refused"):
        read({"a": ["${a}"]})
    doubling = {f"k{level}": [f"${{k{level + 1}}}"] * 2 for level in range(MAX_DEPTH - 2)} | {f"k{MAX_DEPTH - 2}": "x"}
    with pytest.raises(ValueError, match="is refused"):
        read(doubling)
    texts = {f"k{level}": f"${{k{level + 1}}}" * 2 for level in range(MAX_DEPTH - 2)} | {f"k{MAX_DEPTH - 2}": "x"}
    with pytest.raises(ValueError, match="is refused"):
        read(texts)


def deep(levels: int) -> Any:
    node: Any = 1
    for _ in range(levels):
        node = [node]
    return node


def shared(levels: int) -> Any:
    node: Any = [1]
    for _ in range(levels):
        node = [node, node]
    return node


DAMAGED: list[Any] = [
    None,
    [],
    7,
    {"a": datetime.date(2026, 1, 1)},
    {"a": {1, 2}},
    {"a": b"x"},
    {"a": (1, 2)},
    {"a": Path("x")},
    {1: "a"},
    {"a": {None: 1}},
    {"a" * 300: 1},
    {"a": 10**30},
    {"a": "x" * (MAX_CHARACTERS + 1)},
    {"a": deep(MAX_DEPTH + 1)},
    {"a": shared(MAX_DEPTH - 2)},
    {"a": [0] * 50_000},
]


@pytest.mark.parametrize("config", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_no_plain_configuration_is_damaged(config: Any) -> None:
    with pytest.raises(ValueError, match=r"run.yaml is damaged"):
        read(config)
