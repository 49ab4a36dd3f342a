"""Learning-rate range test (Smith 2015, arXiv 1506.01186): `lr_find=true` suggests a rate instead of training."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from src.models.pace import Pace
from src.run.instantiate import instantiate
from src.run.sync_batchnorm import SyncBatchNorm
from src.run.used_weights import UsedWeights
from src.speed.cpu_tuning import CpuTuning
from src.system.json_files import write_json

log = logging.getLogger(__name__)

NAME = "lr_find"
STEPS = 100
LOWEST, HIGHEST = 1e-6, 10.0  # learning rates
DECAY = 0.9  # of the running mean of the loss
DIVERGED = 4.0  # the test ends when the running mean exceeds its lowest value by this factor
WIDTH = 2.5  # standard deviation of the smoothing of the curve, in steps


class RangeTest(L.Callback):
    """Raise the learning rate exponentially from step to step, and record the loss of each step, until it diverges.

    Groups of parameters keep the ratios of their rates.

    Args:
        lr: the configured rate of the optimizer.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._groups: list[float] = []  # the rate of each group
        self._batches: list[float] = []  # the losses of the batches of a step
        self._mean, self._lowest = 0.0, math.inf

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the rates of the groups, and keep everything that depends on the fraction of the run at its start."""
        pl_module.pace = Pace([(0, 10**9)])  # type: ignore[assignment]  # nn.Module's attributes
        self._groups = [group["lr"] for group in trainer.optimizers[0].param_groups]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of the step."""
        rate = LOWEST * (HIGHEST / LOWEST) ** (trainer.global_step / (STEPS - 1))
        for group, lr in zip(trainer.optimizers[0].param_groups, self._groups, strict=True):
            group["lr"] = lr * rate / self.lr
        self.rates = [*self.rates[: trainer.global_step], rate]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss of the step, and end the test if it diverges."""
        loss = trainer.strategy.reduce(outputs["loss"].detach(), reduce_op="mean")
        # Lightning has divided it by accumulate_grad_batches
        self._batches.append(float(loss) * trainer.accumulate_grad_batches)
        if trainer.fit_loop._should_accumulate():
            return
        self.losses.append(sum(self._batches) / len(self._batches))
        self._batches = []
        self._mean = DECAY * self._mean + (1 - DECAY) * self.losses[-1]
        mean = self._mean / (1 - DECAY ** len(self.losses))  # corrects the bias of the first values
        self._lowest = min(self._lowest, mean)
        trainer.should_stop |= not math.isfinite(mean) or mean > DIVERGED * self._lowest > 0


def find_learning_rate(cfg: DictConfig, objects: dict[str, Any]) -> float | None:
    """Test the model of a run with the data, batches and device of its training; log a suggestion and draw the curve.

    Args:
        cfg: the configuration of the run.
        objects: the objects that `build` made from it with `model.scheduler=null`; the model's weights are changed.

    Returns:
        The suggested learning rate; None if the loss never fell.

    Raises:
        ValueError: the optimizer has no learning rate.
    """
    if not cfg.model.optimizer.get("lr"):
        raise ValueError("lr_find=true searches for model.optimizer.lr, which this optimizer does not have.")
    test = RangeTest(cfg.model.optimizer.lr)
    own: dict[str, Any] = {"max_steps": STEPS, "max_epochs": -1, "min_epochs": None, "fast_dev_run": False}
    own |= {"limit_val_batches": 0, "num_sanity_val_steps": 0, "logger": False}
    own |= {"enable_checkpointing": False, "enable_progress_bar": False}
    own["plugins"] = [SyncBatchNorm()] if cfg.trainer.get("sync_batchnorm") else None
    tuning = [one for one in objects["callbacks"] if isinstance(one, CpuTuning)]
    trainer = instantiate(cfg.trainer, callbacks=[UsedWeights(), *tuning, test], **own)
    trainer.fit(objects["model"], datamodule=objects["datamodule"])
    lr = suggest_lr(test.rates, test.losses)
    report(Path(cfg.paths.output_dir), test.rates, test.losses, lr)
    return lr


def suggest_lr(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate halfway, on a logarithmic scale, between where the loss falls fastest and where it is lowest.

    None if the loss does not fall. At the first of these rates a net learns; at the second it is about to diverge.
    """
    curve = smooth(losses)
    lowest = int(np.argmin(curve)) if len(curve) else 0
    if lowest < 1:
        return None
    steepest = int(np.argmin(np.diff(curve[: lowest + 1])))  # the steps are equal in the logarithm of the rate
    return rates[(steepest + lowest) // 2]


def smooth(losses: Sequence[float]) -> np.ndarray:
    """Return the finite losses smoothed by a centred Gaussian, which does not shift them to higher rates."""
    values = np.array([loss for loss in losses if math.isfinite(loss)])
    steps = np.arange(len(values))
    weights = np.exp(-((steps[:, None] - steps) ** 2) / (2 * WIDTH**2))  # (N, N)
    smoothed: np.ndarray = weights @ values / weights.sum(axis=1) if len(values) else values
    return smoothed


@rank_zero_only
def report(folder: Path, rates: Sequence[float], losses: Sequence[float], lr: float | None) -> None:
    """Write the curve to a JSON file and a picture, and log the suggestion."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    override = None if lr is None else f"model.optimizer.lr={float(f'{lr:.1e}'):g}"
    rates = rates[: len(losses)]
    write_json(folder / f"{NAME}.json", {"lr": rates, "loss": losses, "suggestion": lr, "override": override})
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(rates, losses, s=8, alpha=0.5)
    curve = smooth(losses)
    axes.plot(rates[: len(curve)], curve)
    axes.set(xlabel="learning rate", ylabel="training loss of a step", xscale="log")
    if len(curve):
        margin = 0.1 * (curve[0] - curve.min()) + 1e-12
        axes.set_ylim(curve.min() - margin, max(curve[0], curve.min()) + 3 * margin)
    if lr is not None:
        axes.axvline(lr, linestyle="--", label=override)
        axes.legend()
    axes.grid(alpha=0.3)
    path = folder / f"{NAME}.png"
    figure.savefig(path, dpi=120)
    log.info("lr_find: %s; curve: %s", f"try {override}" if override else "the loss did not fall at any rate", path)
