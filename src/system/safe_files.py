"""Read untrusted YAML and JSON files: plain values within limits, or an error of one sentence."""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import yaml

MAX_YAML_BYTES, MAX_JSON_BYTES = 256 * 1024, 64 * 1024**2  # a test report contains pictures
MAX_DEPTH = 64  # depth of nested lists and mappings
MAX_DIGITS = 20  # digits of an integer: any 64-bit seed, and none that overflows a float


class PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the fast one, where built
    """Load null, booleans, numbers and strings, in lists and mappings; dates are strings."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def _bounded_integer(self, node: yaml.ScalarNode) -> int:
        check_digits(node.value)
        return self.construct_yaml_int(node)


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader._bounded_integer)


def read_yaml(path: Path) -> Any:
    """Read the plain values of a YAML file, None if it is empty. Of duplicate keys, the last counts.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a regular file, too large or deep, not YAML, or has aliases, anchors or tags.
    """
    text = read_text(path, MAX_YAML_BYTES)
    try:
        check_events(text)
        return yaml.load(text, Loader=PlainLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {in_a_line(error)}") from error


def check_events(text: str) -> None:
    """Raise ValueError for an alias, an anchor, a tag or too many levels, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=PlainLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("it has an anchor or an alias.")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"it has a tag, {event.tag}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        check_depth(depth)


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read the values of a JSON file. Of duplicate keys, the last counts.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a regular file, too large or deep, or not JSON.
    """
    text = read_text(path, max_bytes)
    try:
        content = json.loads(text, parse_int=bounded_integer)
        if text.count("[") + text.count("{") > MAX_DEPTH:  # fewer brackets cannot be deeper
            check_levels(content)
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: it is nested more than {MAX_DEPTH} levels deep.") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {in_a_line(error)}") from error
    return content


def bounded_integer(text: str) -> int:
    """Parse an integer of at most `MAX_DIGITS` digits."""
    check_digits(text)
    return int(text)


def check_digits(text: str) -> None:
    """Raise ValueError for an integer of more digits than this project writes."""
    if len(text.lstrip("+-")) > MAX_DIGITS:
        raise ValueError(f"it has an integer of more than {MAX_DIGITS} digits, {text[:MAX_DIGITS]}…")


def check_depth(depth: int) -> None:
    """Raise ValueError for more levels than this project writes."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep.")


def check_levels(content: Any) -> None:
    """Raise ValueError for lists and dicts that are nested too deep, without recursion."""
    level, depth = [content], 0
    while containers := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        check_depth(depth)
        level = [child for node in containers for child in (node.values() if isinstance(node, dict) else node)]


def read_text(path: Path, max_bytes: int) -> str:
    """Read a regular file of UTF-8 text; raise ValueError if it is larger than that, or not UTF-8."""
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path} is damaged: it is larger than {max_bytes:,} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not UTF-8 text.") from error


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to read its bytes, and nothing else: reading a pipe would block.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a regular file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{path} is damaged: it is not a regular file.")
        # it may be a pipe by now, and Windows would convert line ends
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


def in_a_line(error: Exception) -> str:
    """Return the message of an error in one line, shortened."""
    line = re.sub(r"[^ -~]+|\s+", " ", str(error))
    return line if len(line) <= 120 else f"{line[:119]}…"


def printable_lines(text: str) -> str:
    """Return a string of several lines without control characters."""
    return "\n".join(map(printable, text.expandtabs().split("\n")))


def printable(text: str) -> str:
    """Return a line of text with "?" for characters that are not printable."""
    return "".join(character if character.isprintable() else "?" for character in text)
