"""Learning-rate schedules: their curves, and how Lightning steps them."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src.models.schedulers import Schedule, cosine_warm_restarts, linear, one_cycle, plateau, warmup_cosine

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "warmup_cosine": warmup_cosine,
    "linear": linear,
    "one_cycle": one_cycle,
    "plateau": partial(plateau, monitor="val/loss", patience=0, factor=0.5),
    "cosine_warm_restarts": partial(cosine_warm_restarts, T_0=2),
}


def rates(schedule: Callable[..., Schedule], total_steps: int, steps_per_epoch: int, **options: Any) -> list[float]:
    """Return the rate of each step of a run, as a multiple of the optimizer's own."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    result = schedule(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch, **options)
    assert result["interval"] == "step"
    steps = []
    for _ in range(total_steps):
        steps.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        result["scheduler"].step()
    return steps


def rises(values: list[float]) -> bool:
    return all(before < after for before, after in pairwise(values))


def falls(values: list[float]) -> bool:
    return rises(values[::-1])


# ---- warmup_cosine


@pytest.mark.parametrize("warmup_epochs", [1, 2.5, 0.5])
def test_the_rate_rises_over_the_warm_up_and_falls_to_its_least_at_the_last_step(warmup_epochs: float) -> None:
    steps = rates(warmup_cosine, 100, 10, warmup_epochs=warmup_epochs, min_lr_ratio=0.05)
    peak = round(10 * warmup_epochs)
    assert steps[peak] == pytest.approx(1)
    assert 0 < steps[0] < 0.2
    assert rises(steps[: peak + 1])
    assert falls(steps[peak:])
    assert steps[-1] == pytest.approx(0.05)


def test_the_rise_is_a_line_and_the_fall_a_cosine() -> None:
    steps = rates(warmup_cosine, 24, 3, warmup_epochs=1, min_lr_ratio=0.2)
    assert steps[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert steps[13] == pytest.approx(0.6)  # half way between 3 and 23: half way between 1 and 0.2
    assert steps[8] == pytest.approx(0.2 + 0.8 * (1 + 0.5**0.5) / 2)  # a quarter of the way: cos 45°


def test_without_warm_up_a_run_starts_at_the_full_rate() -> None:
    steps = rates(warmup_cosine, 10, 5, warmup_epochs=0)
    assert steps[0] == pytest.approx(1)
    assert falls(steps)


@pytest.mark.parametrize("total_steps", [3, 10, 11])
def test_a_run_no_longer_than_its_warm_up_still_has_both_parts(total_steps: int) -> None:
    steps = rates(warmup_cosine, total_steps, total_steps, warmup_epochs=1)
    peak = total_steps // 2
    assert steps[peak] == pytest.approx(1)
    assert rises(steps[: peak + 1])
    assert falls(steps[peak:])
    assert steps[-1] == pytest.approx(0.01)


def test_a_run_of_one_step_takes_it_at_the_full_rate() -> None:
    assert rates(warmup_cosine, 1, 1) == [1]


@pytest.mark.parametrize(("schedule", "least"), [(warmup_cosine, 0.01), (linear, 0)])
def test_the_rate_stays_at_its_least_after_the_end(schedule: Callable[..., Schedule], least: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, total_steps=10, steps_per_epoch=5)["scheduler"]
    for _ in range(15):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(least, abs=0)


# ---- linear


def test_the_line_warms_up_alike_and_would_be_at_zero_a_step_after_the_last() -> None:
    steps = rates(linear, 24, 4, warmup_epochs=1)
    assert steps[:4] == pytest.approx(rates(warmup_cosine, 24, 4, warmup_epochs=1)[:4])
    assert steps[4:] == pytest.approx([1 - step / 20 for step in range(20)])


@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_the_shortest_runs_have_no_step_without_a_rate(total_steps: int) -> None:
    steps = rates(linear, total_steps, total_steps)
    assert max(steps) == 1 and min(steps) > 0.3


# ---- the others


def test_one_cycle_rises_to_the_optimizer_s_rate_and_falls_to_nothing() -> None:
    steps = rates(one_cycle, 101, 10, pct_start=0.3, div_factor=20)
    assert steps[0] == pytest.approx(1 / 20)
    peak = steps.index(max(steps))
    assert steps[peak] == pytest.approx(1, abs=0.01)
    assert peak == pytest.approx(30, abs=1)
    assert rises(steps[: peak + 1])
    assert falls(steps[peak:])
    assert steps[-1] < 1e-4


def test_one_cycle_goes_on_in_a_run_that_is_resumed_to_be_longer() -> None:
    optimizers = [torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0) for _ in range(2)]
    made = zip(optimizers, (10, 20), strict=True)
    short, long = (one_cycle(optimizer, total_steps=steps, steps_per_epoch=5)["scheduler"] for optimizer, steps in made)
    optimizer = optimizers[1]
    for _ in range(9):
        optimizers[0].step()
        short.step()
    long.load_state_dict(short.state_dict())
    whole = rates(one_cycle, 20, 5)
    for step in range(10, 20):
        optimizer.step()
        long.step()
        assert optimizer.param_groups[0]["lr"] / 2 == pytest.approx(whole[step])


def test_one_cycle_keeps_the_proportions_of_parameter_groups() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups)
    scheduler = one_cycle(optimizer, total_steps=20, steps_per_epoch=5)["scheduler"]
    for _ in range(8):
        optimizer.step()
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(10 * optimizer.param_groups[1]["lr"])


def test_plateau_lowers_the_rate_when_its_figure_has_stopped_improving() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = plateau(
        optimizer, total_steps=9, steps_per_epoch=3, monitor="val/acc", mode="max", patience=1, factor=0.1
    )
    assert (schedule["monitor"], schedule["interval"]) == ("val/acc", "epoch")
    lrs = []
    for accuracy in (0.5, 0.6, 0.6, 0.6, 0.6):
        schedule["scheduler"].step(accuracy)
        lrs.append(optimizer.param_groups[0]["lr"])
    assert lrs == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_warm_restarts_fall_and_start_again() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = cosine_warm_restarts(optimizer, total_steps=99, steps_per_epoch=33, T_0=2, T_mult=2, eta_min=0.5)
    assert schedule["interval"] == "epoch"
    lrs = []
    for _ in range(7):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert lrs == pytest.approx([1, 0.75, 1, 0.5 + 0.25 * (1 + 0.5**0.5), 0.75, 0.5 + 0.25 * (1 - 0.5**0.5), 1])


# ---- within Lightning


class Regression(L.LightningModule):
    """A line through nothing that never improves, and the rates it was trained with."""

    def __init__(self, schedule: Callable[..., Schedule], total_steps: int, steps_per_epoch: int) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.schedule = partial(schedule, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        self.lrs: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.lrs.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return self.line(batch).sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", torch.tensor(1.0))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=2.0)
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("warmup_cosine", None),
        ("linear", None),
        ("one_cycle", None),
        ("plateau", [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5]),
        ("cosine_warm_restarts", [1, 1, 1, 0.5, 0.5, 0.5, 1, 1, 1]),
    ],
)
def test_lightning_steps_a_schedule_as_often_as_it_is_meant_to_be(name: str, expected: list[float] | None) -> None:
    model = Regression(SCHEDULES[name], total_steps=9, steps_per_epoch=3)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = DataLoader(torch.zeros(6, 1), batch_size=2)  # type: ignore[arg-type]
    trainer.fit(model, batches, batches)
    assert [lr / 2.0 for lr in model.lrs] == pytest.approx(expected or rates(SCHEDULES[name], 9, 3))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_survives_a_checkpoint(name: str) -> None:
    def run(steps: int, state: dict[str, Any] | None) -> tuple[float, dict[str, Any]]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = SCHEDULES[name](optimizer, total_steps=20, steps_per_epoch=5)["scheduler"]
        if state is not None:
            scheduler.load_state_dict(state["scheduler"])
            optimizer.load_state_dict(state["optimizer"])
        for _ in range(steps):
            optimizer.step()
            scheduler.step(1.0) if name == "plateau" else scheduler.step()
        states = {"scheduler": scheduler.state_dict(), "optimizer": optimizer.state_dict()}
        return optimizer.param_groups[0]["lr"], states

    assert run(5, run(8, None)[1])[0] == pytest.approx(run(13, None)[0])
