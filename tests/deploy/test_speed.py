"""Timing of nets and exported models, and the messages of compilers."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.deploy import speed
from src.predictor import Predictor

BATCH = np.zeros((2, 1, 8, 8), np.float32)


@pytest.mark.parametrize("fails", [False, True])
def test_a_compiler_warns_the_log_and_its_failure_is_said(
    fails: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    def load(folder: Path, threads: int, compiled: bool = False, trusted: bool = False) -> Predictor:
        def run(images: np.ndarray) -> dict[str, Any]:
            warnings.warn("of the compiler", RuntimeWarning, stacklevel=1)
            if fails and compiled:
                raise RuntimeError("no compiler here")
            return {"compiled": compiled}

        return Predictor({"outputs": {}}, run)

    monkeypatch.setattr(speed, "load", load)
    caplog.set_level(logging.INFO)
    run = speed.ready_to_run(Path("model"), True, BATCH, 1, trusted=False)
    assert not recwarn.list and "RuntimeWarning: of the compiler" in caplog.text
    assert ("timed uncompiled, because compilation fails: RuntimeError: no compiler here" in caplog.text) == fails
    assert run(BATCH)["compiled"] != fails
