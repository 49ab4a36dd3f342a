"""Building objects from configuration."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
from omegaconf import DictConfig

from src.train import train
from src.utils.instantiate import STEP_HOOKS, build
from tests.conftest import TINY_RUN


class Counting(L.Callback):
    """Overrides some of the hooks of a step."""

    seen: list[str] = []  # noqa: RUF012

    def on_train_batch_start(self, *_: object) -> None:
        self.seen.append("start")

    def on_after_backward(self, *_: object) -> None:
        self.seen.append("backward")


def test_hooks_that_do_something_are_called_and_others_spared(compose: Callable[..., DictConfig]) -> None:
    target = "+callbacks.counting._target_=tests.utils.test_instantiate.Counting"
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
