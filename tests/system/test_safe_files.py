"""Untrusted files are read within limits, or refused with one sentence; nothing hangs, and no code is run."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.system.safe_files import MAX_DEPTH, MAX_YAML_BYTES, PlainLoader, read_json, read_yaml

READERS = {"yaml": read_yaml, "json": read_json}
PLAIN = {"a": [1, -2.5, None, True, "x"], "b": {"seed": 2**64 - 1, "empty": [], "text": "ü: 日"}, "c": 1e-05}
BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("kind", READERS)
def test_plain_values_are_read_as_they_were_written(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps(PLAIN) if kind == "json" else yaml.safe_dump(PLAIN))
    assert READERS[kind](path) == PLAIN
    path.write_text(deep(MAX_DEPTH))
    assert isinstance(READERS[kind](path), list)


def test_yaml_is_read_as_hydra_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("- lr=0.1\n- started=2026-01-31\n- 2026-01-31\n- a: 1\n  a: 2\n")
    assert read_yaml(path) == ["lr=0.1", "started=2026-01-31", "2026-01-31", {"a": 2}]
    path.write_text("")
    assert read_yaml(path) is None


REFUSED = {
    "yaml": {
        BOMB: "anchor or an alias",
        "a: &a [*a]": "anchor or an alias",
        "a: *b": "anchor or an alias",
        "!!python/object/apply:os.system [exit]": r"a tag, tag:yaml.org,2002:python/object/apply:os.system",
        "a: !x 3": "a tag, !x",
        "a: !!str 3": "a tag, ",
        "a: [": "while parsing a flow node",
        "? [a]\n: b": "unhashable key",
        "--- a\n--- b": "single document",
        "a: 0x" + "f" * 400: "more than 20 digits",
        "a: " + ":".join(["1"] + ["59"] * 400): "more than 20 digits",
        "a: " + ":".join(["1"] + ["59"] * 400) + ".5": "too large",
        "a: 0x_": "invalid literal",
        "#" * (MAX_YAML_BYTES + 1): "larger than",
    },
    "json": {
        "": "Expecting value",
        '{"a": 1': "Expecting",
        "[1] [2]": "Extra data",
        deep(200_000): "levels deep",
        '{"a":' * 200_000 + "1" + "}" * 200_000: "levels deep",
    },
}
BOTH = {
    deep(MAX_DEPTH + 1): "levels deep",
    "[" * 100_000: "levels deep|maximum nesting depth",
    "[" + "9" * 400 + "]": "more than 20 digits",
    "[-" + "9" * 9_000 + "]": "more than 20 digits",
}


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [(kind, *case) for kind in READERS for case in {**REFUSED[kind], **BOTH}.items()],
)
def test_what_is_more_than_plain_values_is_refused(kind: str, text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as refusal:
        READERS[kind](path)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{path} is damaged: ") and len(sentence) < len(str(path)) + 140 and "\n" not in sentence


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_regular_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    read = READERS[kind]
    pipe, loop, folder, binary, secret = (tmp_path / name for name in ("pipe", "loop", "folder", "binary", "secret"))
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    folder.mkdir()
    binary.write_bytes(b"\xff\xfe\x00")
    secret.symlink_to("/dev/zero")
    for path, reason in {
        pipe: "not a regular file",
        loop: "cannot be read: Too many levels of symbolic links",
        folder: "not a regular file",
        binary: "it is not UTF-8 text",
        secret: "not a regular file",
        binary / "inside": "cannot be read: Not a directory",
        tmp_path / ("x" * 300): "cannot be read: File name too long",
    }.items():
        with pytest.raises(ValueError, match=reason):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "lacking")


def test_any_bytes_are_values_or_a_sentence(tmp_path: Path) -> None:
    """Randomly changed text: 2,000 files, none of which may raise anything but ValueError."""
    generator = random.Random(0)
    tokens = ["&a ", "*a", "!!x ", "!", "<<: ", "? ", ": ", "- ", "[", "]", "{", "}", "\t", "\n", "---", "|", "'", '"']
    tokens += ["9" * 50, "NaN", ".inf", "1e999", "-0x_", "1:60:1", "=", "%", "\0", "\ufeff", "2026-99-99", ",", "#"]
    path, refused = tmp_path / "file", 0
    for kind, read in READERS.items():
        whole = json.dumps(PLAIN, indent=1) if kind == "json" else yaml.safe_dump(PLAIN)
        for _ in range(1000):
            text = whole
            for _ in range(generator.randint(1, 4)):
                place = generator.randrange(len(text) + 1)
                text = text[:place] + generator.choice(tokens) * generator.randint(1, 3) + text[place:]
            path.write_text(text)
            try:
                assert plain(read(path))
            except ValueError as error:
                refused += 1
                assert str(error).startswith(str(path))
    assert 500 < refused < 2000


def plain(node: Any) -> bool:
    """Return whether a value is plain, or made of plain values."""
    if isinstance(node, dict):
        return all(plain(part) for pair in node.items() for part in pair)
    return all(map(plain, node)) if isinstance(node, list) else isinstance(node, str | int | float | bool | None)


def test_the_fast_loader_is_used_where_there_is_one() -> None:
    assert issubclass(PlainLoader, yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)
