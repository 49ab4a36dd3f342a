"""JSON files, whole or not at all."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; NaN and infinity, which JSON does not know, become null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in content.items()
    }
    write_whole(path, json.dumps(plain, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; nothing where there is none, or where it is damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
