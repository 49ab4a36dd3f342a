"""Paths with any characters reach the program unchanged."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from src.config.quoting import PATHS, literal, path_of, quote, quote_path

ODD = [
    "it's",
    'say "hi"',
    "a=b",
    "a,b",
    "[x]",
    "{y}",
    "#1",
    "x;y",
    "ü",
    "日本",
    "a b",
    "a\\b",
    "a\\",
    "\\'",
    "'q'",
    '"q"',
]
ODD += ["$HOME", "${x}", "${oc.env:HOME}", "a\\${x}", "a:b", "a@b", "~x", "*", "?", "!", "&", "|", "<>", "(p)", "`id`"]
ODD += [
    "%d",
    "^",
    "+",
    "-x",
    "a\tb",
    "a\nb",
    "null",
    "true",
    "1.5",
    "key=[a,b]",
    "'",
    '"',
    "é'é,=",
    "...",
    "[a,b]",
    "{}",
]


def value_of(argument: str) -> object:
    """The value of an argument after Hydra and OmegaConf have parsed it."""
    (override,) = OverridesParser.create().parse_overrides([argument])
    return OmegaConf.to_container(OmegaConf.create({"x": override.value()}), resolve=True)["x"]  # type: ignore[index]


@pytest.mark.parametrize("name", ODD)
def test_a_path_is_taken_as_it_is_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for path in (name, str(tmp_path / name), f"{tmp_path / name}/checkpoints/last.ckpt"):
        if path == "null":
            continue
        for key in ("run_dir", "resume", "+ckpt_path"):
            if "${" in path and not Path(path).exists():  # may be meant as an interpolation
                continue
            argument = quote_path(f"{key}={path}")
            assert value_of(argument) == path
            assert quote_path(argument) == argument  # not quoted again
            assert path_of(argument.partition("=")[2]) == path_of(path) == path
        (*_, last) = value_of(quote_path(f"input=[{quote('x, y')},{quote(path)}]"))  # type: ignore[misc]
        assert last == path


def test_lists_are_split_at_commas_but_not_within_a_path_that_is_there(tmp_path: Path) -> None:
    both = tmp_path / "a,b"
    both.mkdir()
    assert value_of(quote_path(f"runs=[{both},c, d]")) == [str(both), "c", "d"]
    assert value_of(quote_path("runs=[]")) == []
    assert value_of(quote_path("runs=['a,b',\"c\"]")) == ["a,b", "c"]


@pytest.mark.parametrize("argument", ["model=[a,b]", "tags=[x]", "input=", "out=null", "--cfg=job", "-m", "out=${a}/x"])
def test_everything_else_is_left_alone(argument: str) -> None:
    assert quote_path(argument) == argument
    assert argument.partition("=")[0] in ("model", "tags", "--cfg", "-m", *PATHS)


def test_plain_values_are_written_as_hydra_reads_them() -> None:
    for value in (None, True, 3, -1.5, 1e-7, "null", "it's", [1, "a,b", None], {"a": [1, {"c": False}]}, ""):
        assert value_of(f"x={literal(value)}") == value
