"""Write files, JSON files in particular, whole or not at all."""

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from src.system import safe_files


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; NaN and infinity, which JSON does not have, become null."""
    write_whole(path, json.dumps(finite(content), indent=2, sort_keys=True, allow_nan=False) + "\n")


def finite(node: Any) -> Any:
    """Replace NaN and infinity by None."""
    if isinstance(node, Mapping):
        return {key: finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path, "xb") as file:
        file.write(text.encode(errors="replace"))  # file names may not be valid Unicode


@contextmanager
def replacing(path: Path, mode: str) -> Iterator[IO[Any]]:
    """Open a temporary file that replaces `path` when the context succeeds, and is deleted when it fails.

    A symbolic link at `path` is replaced, not followed. `mode` is "x" for text and "xb" for bytes.
    """
    # other processes may write the file too
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open(mode) as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if it is missing or damaged."""
    try:
        content = safe_files.read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def part(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object at a key of a JSON file; empty if it is missing or not an object."""
    value = content.get(key)
    return value if isinstance(value, dict) else {}
