"""A run with a time budget ends in time, with completed schedules, at any speed of the machine.

Only a callback moves the clock.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from omegaconf import DictConfig

from src.callbacks.last_checkpoint import LastCheckpoint
from src.callbacks.weight_averaging import AverageWeights
from src.models.schedulers import one_cycle, warmup_cosine
from src.run.checkpoints import read_checkpoint
from src.speed import budget
from src.speed.budget import Budget, recorded_plans, steps_that_fit
from src.speed.trial_steps import measure_steps
from src.train import train
from tests.callbacks.test_last_checkpoint import SMALL, STEP, StopAfter

TIME = [0.0]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace the clock with one that stands still, and the measurement with 1 s per step and 2 s per validation."""
    TIME[0] = 0.0
    monkeypatch.setattr(budget, "clock", lambda: TIME[0])
    monkeypatch.setattr(budget, "measure_steps", lambda trainer, model: (1.0, 2.0))
    yield


class Machine(L.Callback):
    """Make a batch take `first` seconds up to a step and `then` afterwards, and each validation `validation` seconds.

    Records the learning rate of each step, and the steps after which there was a validation.
    """

    def __init__(self, first: float = 1.0, until: int = 0, then: float = 1.0, validation: float = 2.0) -> None:
        self.first, self.until, self.then, self.validation = first, until, then, validation
        self.rates: list[float] = []
        self.validated: list[int] = []
        self.fractions: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        TIME[0] += self.first if trainer.global_step < self.until else self.then
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.fractions.append(pl_module.finished_fraction())

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            TIME[0] += self.validation
            self.validated.append(trainer.global_step)


Trainer = Callable[..., L.Trainer]


@pytest.mark.parametrize("end", [0.0, 0.3, 2.0, 30.0])
@pytest.mark.parametrize("per_epoch", [1, 4, 10, math.inf])
@pytest.mark.parametrize("done", [0, 3])
def test_the_steps_that_fit_come_nearest_to_the_time(end: float, per_epoch: float, done: int) -> None:
    done = int(min(done, per_epoch - 1))

    def seconds(steps: int) -> float:
        ends = math.ceil((done + steps) / per_epoch) if math.isfinite(per_epoch) else 1
        return steps * 0.7 + end * ends

    for left in (0.1, 1.0, 7.3, 40.0, 123.4):
        steps = steps_that_fit(left / 0.7, end / 0.7, per_epoch, done)
        best = min((abs(seconds(n) - left) for n in range(1, 400)), default=0.0)
        assert steps <= 1 or abs(seconds(steps) - left) <= max(best + 0.7, end / 2 + 0.7)
        assert steps <= 1 or seconds(steps) <= left + end / 2 + 0.7
        if steps <= 1:
            assert left <= 0.7 * 2 + 2 * end


@pytest.mark.parametrize(
    "machine",
    [
        {},  # as measured
        {"then": 0.5},
        {"then": 3.0, "validation": 1.0},
        {"first": 1.0, "until": 60, "then": 1.5},  # others come
        {"first": 2.0, "until": 60, "then": 1.0, "validation": 4.0},  # others go
    ],
    ids=str,
)
@pytest.mark.parametrize("schedule", [warmup_cosine, one_cycle])
def test_a_run_ends_in_time_with_its_schedule_at_its_end(
    machine: dict[str, Any], schedule: Any, trainer: Trainer, model: Any, data: Any
) -> None:
    model._scheduler = schedule
    watch = Machine(**machine)
    run = trainer(watch, Budget(300))
    run.fit(model, data)
    assert 300 * 0.98 <= TIME[0] <= 300 * 1.02
    steps = run.global_step
    assert len(watch.rates) == steps == model.pace.total_steps
    reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4, momentum=0.9)
    made = schedule(reference, total_steps=model.pace.schedule_steps, steps_per_epoch=4)["scheduler"]
    for _ in range(model.pace.schedule_steps - 1):
        reference.step()
        made.step()
    assert watch.rates[-1] == pytest.approx(reference.param_groups[0]["lr"])  # that of the schedule's last step
    peak = watch.rates.index(max(watch.rates))
    assert all(a > b for a, b in zip(watch.rates[peak:], watch.rates[peak + 1 :], strict=False))
    assert watch.validated == [*range(4, steps, 4), steps]  # after each epoch, and after the last step
    assert watch.fractions == sorted(watch.fractions) and watch.fractions[-1] == pytest.approx(1, abs=0.02)
    assert run.current_epoch == math.ceil(steps / 4) == run.max_epochs


def test_a_run_that_goes_as_planned_is_one_of_so_many_steps(trainer: Trainer, model: Any, data: Any) -> None:
    model._scheduler = warmup_cosine
    watch, plain = Machine(), Machine()
    run = trainer(watch, Budget(60))
    run.fit(model, data)
    assert model.pace.plans == [(0, 40)]  # 10 epochs of 4 s and 2 s
    assert TIME[0] == 60
    del model.pace
    trainer(plain, max_epochs=10).fit(model, data)
    assert watch.rates == plain.rates
    assert watch.fractions == plain.fractions


def test_time_that_is_over_ends_the_run_at_once(trainer: Trainer, model: Any, data: Any) -> None:
    watch = Machine(first=1.0, until=9, then=1000.0)
    run = trainer(watch, Budget(200))
    run.fit(model, data)
    assert run.global_step <= 9 + 30 and len(model.pace.plans) < 12
    assert watch.validated[-1] == run.global_step


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_a_time_for_less_than_an_epoch_is_enough_for_two_steps_and_a_validation(
    seconds: float, trainer: Trainer, model: Any, data: Any
) -> None:
    watch = Machine()
    run = trainer(watch, Budget(seconds))
    run.fit(model, data)
    assert run.global_step == max(int(seconds - 2), 2) and watch.validated == [run.global_step]


def test_steps_of_several_batches_and_validations_of_some_epochs(trainer: Trainer, model: Any, data: Any) -> None:
    watch = Machine()
    run = trainer(watch, Budget(400), accumulate_grad_batches=3, check_val_every_n_epoch=3)  # 2 steps an epoch
    run.fit(model, data)
    assert 392 <= TIME[0] <= 408
    assert run.global_step == model.pace.total_steps
    assert watch.validated == [*range(6, run.global_step, 6), run.global_step]


def test_early_stopping_is_left_out_and_other_callbacks_see_a_whole_epoch(
    trainer: Trainer, model: Any, data: Any, tmp_path: Path
) -> None:
    model._optimizer = partial(torch.optim.SGD, lr=0.0)
    stop = EarlyStopping(monitor="val/acc", mode="max", patience=1)
    average = AverageWeights(decay=None, start=0.5, every_n_steps=None)
    saved = ModelCheckpoint(dirpath=tmp_path, monitor="val/acc", mode="max", save_top_k=-1)
    last = LastCheckpoint(str(tmp_path))
    watch = Machine()
    run = trainer(stop, average, saved, last, watch, Budget(33), enable_checkpointing=True)
    run.fit(model, data)
    assert watch.validated == [4, 8, 12, 16, 20, 21] and run.global_step == 21
    assert len(saved.best_k_models) == 6 and read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 21
    assert average._average_model is not None and int(average._average_model.n_averaged) == 4  # 12, 16, 20 and the end


def test_a_number_of_steps_and_a_checkpoint_without_a_budget_are_refused(
    trainer: Trainer, model: Any, data: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"budget=1m and trainer.max_steps=5 both end the run"):
        trainer(Budget(60), max_steps=5).fit(model, data)
    trainer(LastCheckpoint(str(tmp_path)), enable_checkpointing=True).fit(model, data)
    with pytest.raises(ValueError, match=r"budget=1m cannot resume from a checkpoint of a run without a budget"):
        trainer(Budget(60)).fit(model, data, ckpt_path=tmp_path / "last.ckpt")


def test_damaged_plans_in_a_checkpoint_are_refused(trainer: Trainer, model: Any, data: Any, tmp_path: Path) -> None:
    trainer(Machine(), LastCheckpoint(str(tmp_path)), Budget(20), enable_checkpointing=True).fit(model, data)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    checkpoint["callbacks"]["Budget"]["plans"] = [[0, -5]]
    torch.save(checkpoint, tmp_path / "damaged.ckpt")
    with pytest.raises(ValueError, match=r"The plans in the checkpoint are damaged"):
        trainer(Budget(20)).fit(model, data, ckpt_path=tmp_path / "damaged.ckpt")


# ---- resumed and reproduced


OPTIONS = [
    "model=mnist_cnn_8k",
    "model/mixing=mixup",
    "model.mixing.until=0.5",
    "budget=70s",
    "callbacks=[default,ema]",
]


@pytest.fixture
def run(compose: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
    """Return a function that trains in a named folder, on a given machine, and returns weights and record."""

    def run_(name: str, *overrides: str, stop_after: int = 0, until: int = 12, then: float = 1.5) -> tuple[Any, Any]:
        added = [f"+callbacks.machine={{_target_:{Machine.__module__}.Machine,until:{until},then:{then}}}"]
        if stop_after:
            target = f"{StopAfter.__module__}.{StopAfter.__name__}"
            added.append(f"+callbacks.broken={{_target_:{target},batches:{stop_after}}}")
        train(compose(*SMALL, *OPTIONS, *added, *overrides, f"paths.output_dir={tmp_path / name}"))
        last = read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")
        return last["state_dict"], json.loads((tmp_path / name / "run.json").read_text())["budget"]

    return run_


def assert_equal(a: Any, b: Any) -> None:
    assert a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_an_interrupted_run_ends_as_the_whole_one_after_the_same_time(run: Callable[..., Any], tmp_path: Path) -> None:
    weights, record = run("whole", until=0)
    assert len(record["plans"]) > 1 and abs(record["spent"] - 70) <= 2  # a step takes 1.5 s, and a validation 2 s
    last = f"ckpt_path={tmp_path}/parts/checkpoints/last.ckpt"
    steps = 0
    for batches in (4, 8, 12):  # with a checkpoint after every step, of which the last is lost
        with pytest.raises(RuntimeError, match="broken off"):
            run("parts", f"{STEP}=1", *([last] if steps else []), until=0, stop_after=batches)
        steps += batches
        TIME[0] += 1000.0  # until it is resumed
    resumed, again = run("parts", last, until=0)
    assert_equal(resumed, weights)
    assert again["plans"] == record["plans"] and again["spent"] == pytest.approx(record["spent"])
    assert_equal(run("parts", last, until=0)[0], weights)  # nothing is left to train


def test_a_resumed_run_with_another_budget_plans_anew(run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken off"):
        run("run", f"{STEP}=1", stop_after=15)
    _, record = run("run", f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt", "budget=100s")
    assert 98 <= record["spent"] <= 102


def test_a_reproduced_run_follows_the_plans_whatever_the_clock_says(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, record = run("first")
    monkeypatch.setattr(budget, "measure_steps", None)
    again, followed = run("again", f"reproduce={tmp_path}/first", then=77.0)
    assert_equal(again, weights)
    assert followed["plans"] == record["plans"] and followed["spent"] > 500
    last = f"ckpt_path={tmp_path}/parts/checkpoints/last.ckpt"
    with pytest.raises(RuntimeError, match="broken off"):
        run("parts", f"reproduce={tmp_path}/first", f"{STEP}=1", then=0.1, stop_after=20)
    assert_equal(run("parts", last, then=0.1)[0], weights)  # of which its checkpoint knows


def test_measuring_leaves_the_run_as_it_is(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _ = run("first")
    found = []

    def measure(trainer: L.Trainer, model: Any) -> tuple[float, float]:
        monkeypatch.setattr("src.speed.trial_steps.SECONDS", 0.01)
        found.append(measure_steps(trainer, model))
        return 1.0, 2.0

    monkeypatch.setattr(budget, "measure_steps", measure)
    assert_equal(run("second")[0], weights)
    ((step, validation),) = found
    assert step > 0 and validation > 0


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"budget": 3}',
        '{"budget": {"seconds": 70, "plans": []}}',
        '{"budget": {"seconds": 60, "plans": [[0, 9]]}}',
        '{"budget": {"seconds": 70, "plans": [[1, 9]]}}',
        '{"budget": {"seconds": 70, "plans": [[0, 9], [9, 12]]}}',
        '{"budget": {"seconds": 70, "plans": [[0, 9], [3, 2]]}}',
        '{"budget": {"seconds": 70, "plans": [[0, 1e9]]}}',
        '{"budget": {"seconds": 70, "plans": [[0, 9, 1]]}}',
    ],
)
def test_a_damaged_record_or_that_of_another_time_is_not_followed(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    assert recorded_plans(str(tmp_path), 70.0) == []


def test_the_plan_is_told(trainer: Trainer, model: Any, data: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        trainer(Machine(then=0.5), Budget(60)).fit(model, data)
    told = [record.message for record in caplog.records if record.name == budget.__name__]
    assert told[0] == "budget=1m: about 10.0 epochs, 40 steps"
    assert told[-1].startswith("budget=1m: 1") and told[-1].endswith(" steps, in 1m")
