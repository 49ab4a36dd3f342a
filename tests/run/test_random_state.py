"""The states of the GPUs' generators are restored only on the same number of GPUs."""

import logging

import pytest
import torch

from src.run.random_state import random_state, set_random_state


@pytest.mark.parametrize("gpus", [1, 2, 3])
def test_states_of_gpus_are_restored_on_as_many(
    gpus: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def restore(states: list[torch.Tensor]) -> None:
        restored.extend(states)
        if len(states) > gpus:
            raise IndexError("invalid device")

    restored: list[torch.Tensor] = []
    state = {**random_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)] * 2}
    drawn = torch.rand(3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restore)
    with caplog.at_level(logging.WARNING):
        set_random_state(state)
    assert torch.equal(torch.rand(3), drawn)
    assert len(restored) == (2 if gpus == 2 else 0)
    assert ("random states of 2 GPUs" in caplog.text) == (gpus != 2)
