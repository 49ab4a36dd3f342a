"""The work that is skipped at each step; nothing that is used may be skipped."""

import sys
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.strategies import Strategy
from omegaconf import DictConfig

from src.data.synthetic import SyntheticDataModule
from src.models.classifier import Classifier
from src.run.instantiate import build
from src.run.lean_steps import STEP_HOOKS, STRATEGY_HOOKS, TRAINING_HOOKS, TRANSFER_HOOKS, NoProfiler, Transfer
from src.train import train
from tests.conftest import TINY_RUN

MOST_CALLS = 1_750  # function calls per step of the default run, including 470 of its net and optimizer
HERE = "tests.run.test_lean_steps"


class HookedModel(Classifier):
    """Overrides every hook of a step, and those of the batch transfer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[str] = []


for name in (*STEP_HOOKS, *TRANSFER_HOOKS):

    def hook(self: Any, *args: Any, name: str = name, **options: Any) -> Any:
        self.seen.append(name)
        return getattr(super(HookedModel, self), name)(*args, **options)

    setattr(HookedModel, name, hook)


class HookedData(SyntheticDataModule):
    """Changes every batch."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] + 1000, batch[1]


class Watched(Classifier):
    """Records the smallest pixel of each batch, and the gradient norm of each step but the last."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.least: list[float] = []
        self.norms: list[float] = []

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        if gradients:
            self.norms.append(torch.nn.utils.get_total_norm(gradients).item())

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.least.append(batch[0].min().item())
        return super().training_step(batch, batch_idx)


class CountCalls(L.Callback):
    """Count the function calls, including C functions, in the 20 training steps after the tenth."""

    def __init__(self) -> None:
        self.calls = 0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx in (10, 30):
            sys.setprofile(self.count if batch_idx == 10 else None)

    def count(self, frame: object, event: str, argument: object) -> None:
        self.calls += event in ("call", "c_call")


def test_hooks_that_do_nothing_are_spared(compose: Callable[..., DictConfig]) -> None:
    objects = build(compose("trainer=cpu", "data=synthetic"), None)
    assert all(getattr(objects["model"], hook) is None for hook in TRAINING_HOOKS)
    assert all(getattr(objects["trainer"].strategy, hook) is None for hook in STRATEGY_HOOKS)


def test_every_hook_of_a_model_is_called(compose: Callable[..., DictConfig]) -> None:
    cfg = compose(
        "callbacks=none", *TINY_RUN, "data=synthetic", "test=false", "logger=none", f"model._target_={HERE}.HookedModel"
    )
    _, objects = train(cfg)
    assert set(objects["model"].seen) == {*STEP_HOOKS, *TRANSFER_HOOKS}
    assert objects["model"].seen.count("on_before_optimizer_step") == 3


def test_a_batch_is_transferred_as_data_say(compose: Callable[..., DictConfig]) -> None:
    options = ("callbacks=none", *TINY_RUN, "data=synthetic", "test=false", "logger=none")
    options = (*options, f"model._target_={HERE}.Watched")
    _, plain = train(compose(*options))
    assert isinstance(plain["trainer"].strategy.batch_to_device, Transfer)  # skipped
    assert max(plain["model"].least) < 100
    _, hooked = train(compose(*options, f"data._target_={HERE}.HookedData"))
    assert min(hooked["model"].least) > 900


def test_another_model_in_the_same_trainer_keeps_its_transfer(compose: Callable[..., DictConfig]) -> None:
    options = ("callbacks=none", *TINY_RUN, "data=synthetic", "logger=none")
    objects = build(compose(*options), None)
    other = build(compose(*options, f"model._target_={HERE}.HookedModel"), None)["model"]
    objects["trainer"].fit(other, datamodule=objects["datamodule"])
    assert set(TRANSFER_HOOKS) < set(other.seen)


def test_every_hook_named_exists() -> None:
    assert all(callable(getattr(L.Callback, hook)) for hook in STEP_HOOKS)
    assert all(callable(getattr(L.LightningModule, hook)) for hook in (*STEP_HOOKS, *TRANSFER_HOOKS))
    assert all(callable(getattr(L.LightningDataModule, hook)) for hook in TRANSFER_HOOKS)
    assert all(callable(getattr(Strategy, hook)) for hook in STRATEGY_HOOKS)


def test_a_profiler_that_is_asked_for_measures(compose: Callable[..., DictConfig]) -> None:
    assert isinstance(build(compose("trainer=cpu", "data=synthetic"), None)["trainer"].profiler, NoProfiler)
    options = ("callbacks=none", *TINY_RUN, "data=synthetic", "test=false", "logger=none", "+trainer.profiler=simple")
    _, objects = train(compose(*options))
    profiler = objects["trainer"].profiler
    assert isinstance(profiler, SimpleProfiler)
    assert len(profiler.recorded_durations["run_training_batch"]) == 3


@pytest.mark.parametrize(("clipping", "most"), [("norm", 0.01), ("none", None)])
def test_gradients_are_clipped_where_that_is_asked_for(
    compose: Callable[..., DictConfig], clipping: str, most: float | None
) -> None:
    options = ("callbacks=none", *TINY_RUN, "data=synthetic", "test=false", "logger=none", f"clipping={clipping}")
    cfg = compose(*options, f"model._target_={HERE}.Watched")
    cfg.trainer.gradient_clip_val = most
    _, objects = train(cfg)
    assert len(objects["model"].norms) == 2
    assert all(norm == pytest.approx(0.01, rel=1e-3) if most else norm > 0.1 for norm in objects["model"].norms)


def test_a_step_takes_no_more_calls_than_it_did(compose: Callable[..., DictConfig]) -> None:
    options = ("data=synthetic", "test=false", f"+callbacks.calls._target_={HERE}.CountCalls")
    cfg = compose(*TINY_RUN, *options, "model=mnist_sdn_68k", "trainer.limit_train_batches=31")
    _, objects = train(cfg)
    counted = next(one for one in objects["callbacks"] if type(one).__name__ == "CountCalls")
    assert 0 < counted.calls / 20 < MOST_CALLS
