"""Learning-rate schedules as Lightning expects them: a scheduler and the interval at which to step it.

`total_steps` and `steps_per_epoch` count the optimizer steps of the run; the task passes them.
"""

import math
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
    warmup_steps = min(round(warmup_epochs * steps_per_epoch), total_steps // 2)

    def ratio(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min((step - warmup_steps) / max(total_steps - 1 - warmup_steps, 1), 1.0)
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

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
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, max_lr=max_lr, total_steps=total_steps, pct_start=pct_start, div_factor=div_factor
    )
    return {"scheduler": scheduler, "interval": "step"}


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
