"""Building objects from configuration."""

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from omegaconf import DictConfig

from src.cli.checks import check_types
from src.run.instantiate import build
from src.run.lean_steps import STEP_HOOKS
from src.train import train
from tests.conftest import TINY_RUN


class Counting(L.Callback):
    """Overrides some of the hooks of a step."""

    seen: list[str] = []  # noqa: RUF012

    def on_train_batch_start(self, *_: object) -> None:
        self.seen.append("start")

    def on_after_backward(self, *_: object) -> None:
        self.seen.append("backward")


def test_hooks_that_do_something_are_called_and_others_spared(compose: Callable[..., DictConfig]) -> None:
    target = "+callbacks.counting._target_=tests.run.test_instantiate.Counting"
    cfg = compose("callbacks=none", target, *TINY_RUN, "data=synthetic", "test=false", "logger=none")
    _, objects = train(cfg)
    (counting,) = objects["callbacks"]
    assert counting.seen == ["start", "backward"] * 3
    spared = {hook for hook in STEP_HOOKS if getattr(counting, hook) is None}
    assert spared == set(STEP_HOOKS) - {"on_train_batch_start", "on_after_backward"}


def test_every_hook_named_exists(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    assert all(callable(getattr(L.Callback, hook)) for hook in STEP_HOOKS)
    objects = build(compose("trainer=cpu", "data=synthetic"), None)
    assert objects["trainer"].callbacks


@pytest.mark.parametrize("name", ["gpu", "mps"])
def test_a_device_that_lacks_is_named_with_a_way_out(
    name: str, compose: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    with pytest.raises(ValueError, match=f"^trainer.accelerator={name}: there is no such device .*; use trainer=cpu.$"):
        build(compose(f"trainer={name}", "data=synthetic"), None)


def test_a_run_can_be_sent_to_other_processes(compose: Callable[..., DictConfig]) -> None:
    objects = build(compose("trainer=ddp_sim", "trainer.strategy=ddp_spawn", "data=synthetic"), None)
    for name in ("trainer", "model", "datamodule"):
        assert ForkingPickler.dumps(objects[name])


@pytest.mark.parametrize("word", ["true", "warn"])
def test_torch_can_be_told_to_be_deterministic(word: str, compose: Callable[..., DictConfig]) -> None:
    check_types("train", [f"trainer.deterministic={word}"])
    try:
        build(compose("trainer=cpu", "data=synthetic", f"trainer.deterministic={word}"), None)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == (word == "warn")
    finally:
        torch.use_deterministic_algorithms(False)
