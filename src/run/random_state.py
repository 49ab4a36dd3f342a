"""Save and restore the states of all random number generators as plain numbers and tensors."""

import logging
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.system.wording import counted

log = logging.getLogger(__name__)

WORDS = 624  # state size of a Mersenne twister; a larger position would read and write out of bounds


def random_state() -> dict[str, Any]:
    """Return the states of the generators of Python, NumPy and torch, on the CPU and on every GPU."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), keys.tolist(), int(position), int(has_gauss), float(cached)],  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore a state returned by `random_state`; GPU states only if the number of GPUs is the same.

    Raises:
        ValueError: part of the state is damaged; then nothing is restored.
    """
    check_random_state(state)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        saved, present = len(state["cuda"]), torch.cuda.device_count()
        if saved == present:
            torch.cuda.set_rng_state_all(state["cuda"])
        else:
            log.warning(
                "The checkpoint holds the random states of %s, but this machine has %d: they are not restored, so "
                "random draws on a GPU, such as dropout, differ from those of an uninterrupted run.",
                counted(saved, "GPU"),
                present,
            )


def check_random_state(state: Any) -> None:
    """Validate a random state, because the generators do not.

    Raises:
        ValueError: names the generators whose state is damaged.
    """
    own = torch.get_rng_state()
    match state:
        case {
            "python": [3, [*words, int(index)], None | float()],
            "numpy": ["MT19937", [*keys], int(position), 0 | 1, float()],
            "torch": Tensor() as cpu,
            "cuda": [*gpus],
        }:
            damaged = {
                "python": not are_words(words) or not 0 <= index <= WORDS,
                "numpy": not are_words(keys) or not 0 <= position <= WORDS,
                "torch": not are_bytes(cpu) or cpu.shape != own.shape,
                "cuda": not all(isinstance(one, Tensor) and are_bytes(one) for one in gpus),
            }
            faulty = ", ".join(name for name, is_damaged in damaged.items() if is_damaged)
        case _:
            faulty = "its form"
    if faulty:
        raise ValueError(
            f"The random state in the checkpoint is damaged ({faulty}): start a new run with init_from=….ckpt."
        )


def are_words(words: list[Any]) -> bool:
    """Return whether these are the words of a Mersenne twister."""
    return len(words) == WORDS and all(type(word) is int and 0 <= word < 2**32 for word in words)


def are_bytes(state: Tensor) -> bool:
    """Return whether a tensor is a contiguous vector of bytes."""
    return state.dtype == torch.uint8 and state.ndim == 1 and state.layout == torch.strided and state.is_contiguous()
