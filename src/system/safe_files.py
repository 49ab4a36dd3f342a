"""YAML and JSON files that may come from anywhere, read within bounds: plain values, or a sentence why not."""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import yaml

MOST_YAML, MOST_JSON = 256 * 1024, 64 * 1024**2  # bytes; a report of a test holds pictures
DEEPEST = 64  # lists and mappings within each other
MOST_DIGITS = 20  # of an integer: any seed of 64 bits, and none that a float cannot hold


class PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the fast one, where built
    """Reads null, switches, numbers and text, in lists and mappings; dates are text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def bounded_integer(self, node: yaml.ScalarNode) -> int:
        """An integer of at most `MOST_DIGITS` digits."""
        check_digits(node.value)
        return self.construct_yaml_int(node)


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.bounded_integer)


def read_yaml(path: Path) -> Any:
    """The plain values that a YAML file holds; None where it is empty. The last of several equal keys counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, is too large or too deep, or is not YAML of plain values: aliases, anchors
            and tags are refused.
    """
    text = read_text(path, MOST_YAML)
    try:
        check_events(text)
        return yaml.load(text, Loader=PlainLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {in_a_line(error)}") from error


def check_events(text: str) -> None:
    """Refuse what makes YAML more than plain values, before anything is built.

    Raises:
        ValueError: an alias, an anchor, a tag, or too many levels.
        yaml.YAMLError: it is no YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=PlainLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("it has an anchor or an alias.")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"it has a tag, {event.tag}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        check_depth(depth)


def read_json(path: Path, most_bytes: int = MOST_JSON) -> Any:
    """The values that a JSON file holds. The last of several equal keys counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, is too large or too deep, or is not JSON.
    """
    text = read_text(path, most_bytes)
    try:
        content = json.loads(text, parse_int=bounded_integer)
        if text.count("[") + text.count("{") > DEEPEST:  # fewer brackets cannot be deeper
            check_levels(content)
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: it is nested more than {DEEPEST} levels deep.") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {in_a_line(error)}") from error
    return content


def bounded_integer(text: str) -> int:
    """An integer of at most `MOST_DIGITS` digits."""
    check_digits(text)
    return int(text)


def check_digits(text: str) -> None:
    """Raise ValueError for an integer that is longer than any that this project writes."""
    if len(text.lstrip("+-")) > MOST_DIGITS:
        raise ValueError(f"it has an integer of more than {MOST_DIGITS} digits, {text[:MOST_DIGITS]}…")


def check_depth(depth: int) -> None:
    """Raise ValueError for more levels than any file has that this project writes."""
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep.")


def check_levels(content: Any) -> None:
    """Raise ValueError where lists and dicts are nested too deep, without being recursive itself."""
    level, depth = [content], 0
    while containers := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        check_depth(depth)
        level = [child for node in containers for child in (node.values() if isinstance(node, dict) else node)]


def read_text(path: Path, most_bytes: int) -> str:
    """The text of a regular file in UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, is larger, is no text, or cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{path} is damaged: it is larger than {most_bytes:,} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is no text in UTF-8.") from error


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to read its bytes; nothing else is opened, for a pipe would be waited for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{path} is damaged: it is not a regular file.")
        # it may be a pipe by now, and Windows would change the ends of lines
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


def in_a_line(error: Exception) -> str:
    """What an error says, in a line of a readable length."""
    line = re.sub(r"[^ -~]+|\s+", " ", str(error))
    return line if len(line) <= 120 else f"{line[:119]}…"


def printable_lines(text: str) -> str:
    """A text of several lines, each of them printable."""
    return "\n".join(map(printable, text.expandtabs().split("\n")))


def printable(text: str) -> str:
    """A text in a line, without what a terminal would obey or could not show."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
