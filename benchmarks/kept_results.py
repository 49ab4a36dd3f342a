"""Results that benchmarks keep in benchmarks/results/, so that nothing is measured twice."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from src.system.json_files import read_json, write_json

RESULTS = Path(__file__).resolve().parent / "results"
writing = Lock()


def known_results(name: str) -> dict[str, dict[str, Any]]:
    """Return the results in a file of that name, by key."""
    return read_json(RESULTS / f"{name}.json")


def kept(name: str, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return and print the result of a key in a file of that name; measure and add it if it is missing."""
    known = known_results(name)
    if key not in known:
        return keep(name, key, measure())
    print(key, json.dumps(known[key]), flush=True)
    return known[key]


def keep(name: str, key: str, result: dict[str, Any]) -> dict[str, Any]:
    """Write the result of a key to a file of that name, and print it."""
    with writing:
        RESULTS.mkdir(exist_ok=True)
        write_json(
            RESULTS / f"{name}.json", {**known_results(name), key: result}
        )  # other threads may have added results meanwhile
    print(key, json.dumps(result), flush=True)
    return result
