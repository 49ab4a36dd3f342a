"""Learning-rate schedules as Lightning expects them: a scheduler and the interval at which to step it.

`total_steps` and `steps_per_epoch` count the optimizer steps of the run; the task passes them.
"""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer, lr_scheduler

Schedule = dict[str, Any]


def warmup_cosine(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 1.0,
    min_lr_ratio: float = 0.01,
) -> Schedule:
    """Warm up linearly over `warmup_epochs`, then decay along a cosine to `min_lr_ratio` of the rate.

    The warm-up takes at most half of the run, so that a run of one epoch still has both phases.
    """

    def cosine(progress: float) -> float:
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    return warmup_then(cosine, optimizer, total_steps, warmup_epochs * steps_per_epoch, end=total_steps - 1)


def linear(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 1.0) -> Schedule:
    """Warm up as `warmup_cosine` does, then decay linearly to reach 0 one step after the last.

    Linear decay to 0: Defazio et al. 2023 (arXiv 2310.07831), Bergsma et al. 2025 (arXiv 2502.15938).
    """
    return warmup_then(
        lambda progress: 1 - progress, optimizer, total_steps, warmup_epochs * steps_per_epoch, end=total_steps
    )


def warmup_then(
    decay: Callable[[float], float], optimizer: Optimizer, total_steps: int, warmup: float, end: int
) -> Schedule:
    """Rise linearly over the warm-up, then multiply the rate by `decay`.

    Args:
        decay: maps the fraction of the way from the end of the warm-up to the step `end` to the ratio of the rate.
        optimizer: the optimizer.
        total_steps: steps of the run.
        warmup: steps of the warm-up, rounded; at most half of the run.
        end: the step at which that fraction reaches 1; it stays 1 afterwards.
    """
    warmup_steps = min(round(warmup), total_steps // 2)

    def ratio(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return decay(min((step - warmup_steps) / max(end - warmup_steps, 1), 1.0))

    return {"scheduler": lr_scheduler.LambdaLR(optimizer, ratio), "interval": "step"}


def one_cycle(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
) -> Schedule:
    """Rise to the optimizer's rate over `pct_start` of the run, then fall to near 0 (Smith 2018, arXiv 1708.07120)."""
    max_lr = [group["lr"] for group in optimizer.param_groups]
    scheduler = OneCycle(optimizer, max_lr=max_lr, total_steps=total_steps, pct_start=pct_start, div_factor=div_factor)
    return {"scheduler": scheduler, "interval": "step"}


class OneCycle(lr_scheduler.OneCycleLR):
    """torch's schedule, but a resumed run may have another number of steps than its checkpoint, as with the others."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load all but the length of the run."""
        length = {name: vars(self)[name] for name in ("total_steps", "_schedule_phases")}
        super().load_state_dict(state_dict | length)


def plateau(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, monitor: str, **options: Any) -> Schedule:
    """Lower the rate when `monitor` stops improving; `options` go to torch's ReduceLROnPlateau."""
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor}


def cosine_warm_restarts(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, **options: Any) -> Schedule:
    """Cosine decay with restarts, in epochs (SGDR, arXiv 1608.03983); `options` go to torch's scheduler."""
    return {"scheduler": lr_scheduler.CosineAnnealingWarmRestarts(optimizer, **options), "interval": "epoch"}


def constant(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> Schedule:
    """Keep the rate constant."""
    return {"scheduler": lr_scheduler.ConstantLR(optimizer, factor=1.0), "interval": "epoch"}
