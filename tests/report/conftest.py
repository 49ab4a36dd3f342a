"""Fixtures for the tests of comparisons: folders that look like runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write the folder of a run, by default from before tasks named their score; with a status, of a job."""

    def make(
        name: str,
        *overrides: str,
        seed: int = 1,
        status: str | None = None,
        choices: dict[str, str] | None = None,
        study: dict[str, Any] | None = None,
        error: str | None = None,
        score: tuple[str, str] | None = None,
        task: str | None = None,
        **metrics: float,
    ) -> Path:
        folder = tmp_path / "runs" / name
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*overrides, f"seed={seed}"]))
        chosen = {"model": "mnist_sdn_8k", "data": "mnist", **(choices or {})}
        chosen |= {key: value for key, _, value in (one.partition("=") for one in overrides) if key in chosen}
        record = {"seed": seed, "choices": chosen, "command": "src/train.py", "cpu": "A CPU", "threads": 2}
        record |= dict(zip(("score", "mode"), score or (), strict=False)) | ({"task": task} if task else {})
        (folder / "run.json").write_text(json.dumps(record))
        if metrics:
            named = {key.replace("__", "/"): value for key, value in metrics.items()}
            (folder / "metrics.json").write_text(json.dumps(named))
        if status:
            (folder / "job.json").write_text(json.dumps({"overrides": list(overrides), "study": study}))
            (folder / "status.json").write_text(json.dumps({"status": status, "epoch": 2, "error": error}))
        return folder

    return make
