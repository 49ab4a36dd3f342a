"""Results that benchmarks keep in benchmarks/results/, so that what was measured once is not measured again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.system.json_files import read_json, write_json

RESULTS = Path(__file__).resolve().parent / "results"


def kept(name: str, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return and print the result of a key in a file of that name; measure and add it if it is not there."""
    path = RESULTS / f"{name}.json"
    known = read_json(path)
    if key not in known:
        result = measure()
        RESULTS.mkdir(exist_ok=True)
        known = {**read_json(path), key: result}  # another process may have added its own
        write_json(path, known)
    print(key, json.dumps(known[key]), flush=True)
    return known[key]
