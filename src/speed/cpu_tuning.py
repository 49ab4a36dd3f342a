"""Threads, memory format and precision of training on the CPU, fixed or chosen by measurement."""

import copy
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.utilities.apply_func import apply_to_collection
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.optim import Optimizer

from src.models.compiling import first_line
from src.run.record import RunRecord
from src.speed.measure import MEMORY_FORMATS, PRECISIONS, check_choice, seconds_per_step, train_step
from src.speed.trial_steps import trial_copy
from src.speed.tuning import Settings, choose, compare, paired_gain, powers_of_two
from src.system.cpu import check_threads, has_native_bf16, thread_share, warn_if_emulated

log = logging.getLogger(__name__)
rank_zero_info = rank_zero_only(log.info)

BLOCK_SECONDS = 0.1  # how long a candidate is timed in each round
COMPILED_ROUNDS = 3


class CpuTuning(L.Callback):
    """Train with fixed CPU settings, or with the fastest ones found by timing the train step.

    A setting "tune" is measured on a copy of the model and a batch of its data; random state, weights, running
    statistics and the order of the data do not change, so that a run with the chosen settings fixed gives the same
    result. Checkpoints keep the choice for resumed runs. Validation during training uses the settings, too; the test
    afterwards uses the trainer's own, as `src/eval.py` does. All settings are restored at the end, except for inter-op
    threads, which torch lets a process set only once.

    Args:
        threads: threads within an operation: a number; "auto": this process's share of the physical cores it may use;
            or "tune".
        interop_threads: operations that may run at once; null: torch's default.
        memory_format: "contiguous", "channels_last", "tune", or null: the net's own.
        precision: "32-true", "bf16-mixed", "tune", or null: the trainer's.
        compile: "tune": try torch.compile as well, which takes time before training; or null.
        max_seconds: time limit of the measurement, without compilation; candidates not reached by then are skipped.

    Raises:
        ValueError: a setting is not one of these, or there are more threads than CPUs for this process.
    """

    def __init__(
        self,
        threads: int | Literal["auto", "tune"] = "auto",
        interop_threads: int | None = None,
        memory_format: str | None = None,
        precision: str | None = None,
        compile: Literal["tune"] | None = None,
        max_seconds: float = 15.0,
    ) -> None:
        check_threads("threads", threads, ("auto", "tune"))
        if interop_threads is not None:
            check_threads("interop_threads", interop_threads, ())
        check_choice("memory_format", memory_format, (*MEMORY_FORMATS, "tune", None))
        check_choice("precision", precision, (*PRECISIONS, "tune", None))
        check_choice("compile", compile, ("tune", None))
        self.threads, self.interop_threads, self.memory_format = threads, interop_threads, memory_format
        self.precision, self.compile, self.max_seconds = precision, compile, max_seconds
        self.chosen: Settings | None = None
        self._undo: list[Callable[[], Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the chosen settings."""
        return asdict(self.chosen) if self.chosen else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the settings chosen by the interrupted run."""
        self.chosen = Settings(**state_dict)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Set the threads that need no measurement."""
        self.set_interop_threads()
        self._share = thread_share(trainer.world_size // trainer.num_nodes)
        self._default_threads = torch.get_num_threads()
        self._undo.append(partial(torch.set_num_threads, self._default_threads))
        torch.set_num_threads(self.threads if isinstance(self.threads, int) else self._share)
        if trainer.world_size > 1 and self.memory_format in MEMORY_FORMATS and stage == "fit":  # before DDP's buckets
            pl_module.net.to(memory_format=MEMORY_FORMATS[self.memory_format])

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Choose and apply the settings; weights have been restored by now, optimizers not yet.

        Raises:
            ValueError: settings are to be measured, but there is no datamodule.
        """
        if trainer.strategy.root_device.type != "cpu":
            log.warning("cpu_tuning sets only the threads: the net is on %s.", trainer.strategy.root_device)
            return
        candidates = self.candidates(trainer, pl_module)
        restored = self.chosen and replace(self.chosen, compiled=candidates[0].compiled)
        if restored not in candidates:  # nothing was chosen before, or the configuration or the machine has changed
            self.chosen = candidates[0]
            if len(candidates) > 1 or self.compile == "tune":
                self.chosen = trainer.strategy.broadcast(self.tune(trainer, pl_module, candidates))
        assert self.chosen is not None
        self.apply(self.chosen, trainer, pl_module)
        RunRecord.add_entries(trainer, threads=self.chosen.threads, cpu_settings=asdict(self.chosen))
        rank_zero_info("training with %s", self.chosen)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give restored optimizer states the layout of the weights: torch's fused kernels ignore strides."""
        for optimizer in trainer.optimizers:
            match_state_strides(optimizer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Make the tensors of checkpoints contiguous, for loading without this callback."""
        weights, states = checkpoint["state_dict"], checkpoint["optimizer_states"]
        weights.update(apply_to_collection(dict(weights), Tensor, Tensor.contiguous))  # in place, to keep `_metadata`
        # a copy, because these are the dicts of the running optimizers
        checkpoint["optimizer_states"] = apply_to_collection(states, Tensor, Tensor.contiguous)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore all settings."""
        while self._undo:
            self._undo.pop()()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Restore all settings when the run fails."""
        self.teardown(trainer, pl_module, "fit")

    def set_interop_threads(self) -> None:
        """Set the inter-op threads, or warn if it is too late."""
        if self.interop_threads in (None, torch.get_num_interop_threads()):
            return
        try:
            torch.set_num_interop_threads(self.interop_threads)
        except RuntimeError:  # it can be set only once, before the first parallel work
            log.warning(
                "interop_threads stays %d: it can be set only once, before the process's first parallel work.",
                torch.get_num_interop_threads(),
            )

    def candidates(self, trainer: L.Trainer, pl_module: Any) -> list[Settings]:
        """Return all settings to compare, first the default, which is used without tuning."""
        threads = [self.threads if isinstance(self.threads, int) else self._share]
        formats = ["contiguous" if self.memory_format in (None, "tune") else str(self.memory_format)]
        precisions = [str(trainer.precision if self.precision in (None, "tune") else self.precision)]
        if self.threads == "tune":
            threads = [self._default_threads, *reversed(powers_of_two(self._share))]
        has_filters = any(parameter.ndim == 4 for parameter in pl_module.parameters())
        if self.memory_format == "tune" and has_filters and trainer.world_size == 1:  # DDP's buckets fix the layout
            formats += MEMORY_FORMATS
        if self.precision == "tune" and precisions[0] in PRECISIONS:
            if not has_native_bf16():
                log.info("bf16 is not tried: this CPU emulates it, which takes longer than float32")
            else:
                precisions += PRECISIONS
        compiled = is_compiled(pl_module.net)
        return list(dict.fromkeys(Settings(*one, compiled) for one in product(threads, formats, precisions)))

    def tune(self, trainer: L.Trainer, pl_module: Any, candidates: Sequence[Settings]) -> Settings:
        """Measure the candidates, report on them, and return the fastest."""
        default = candidates[0]
        if trainer.datamodule is None:  # type: ignore[attr-defined]  # set dynamically by Lightning
            raise ValueError("cpu_tuning measures on a batch of the trainer's datamodule, but there is none.")
        start = time.perf_counter()
        with isolate_rng():
            batch = next(iter(trainer.datamodule.train_dataloader()))  # type: ignore[attr-defined]
            batch = trainer.precision_plugin.convert_input(batch)
            copies = {default.compiled: trial_copy(trainer, pl_module)}

            def speed(settings: Settings) -> float:
                torch.set_num_threads(settings.threads)
                model = copies[settings.compiled]
                model.net.to(memory_format=MEMORY_FORMATS[settings.memory_format])
                step = train_step(model, batch, plugin(settings.precision, trainer).train_step_context)
                step()  # warms up: allocates gradients and the optimizer's state
                return len(batch[0]) / seconds_per_step(step, BLOCK_SECONDS)

            speeds = compare(candidates, speed, start + self.max_seconds)
            best = choose(speeds, default)
            if self.compile == "tune" and not default.compiled:
                copies[True] = copy.deepcopy(copies[False])
                copies[True].net.compile()
                compiled = replace(best, compiled=True)
                try:
                    speed(compiled)
                except Exception as error:  # compilers raise errors of any kind, and the run works uncompiled
                    log.warning("The net runs uncompiled because torch.compile fails here: %s", first_line(error))
                else:
                    finalists = list(dict.fromkeys([default, best, compiled]))
                    speeds |= {one: [] for one in finalists}
                    for one in finalists * COMPILED_ROUNDS:
                        speeds[one].append(speed(one))
                    best = choose(speeds, default)
        self.report(trainer, speeds, default, best, time.perf_counter() - start)
        return best

    @rank_zero_only
    def report(
        self, trainer: L.Trainer, speeds: dict[Settings, list[float]], default: Settings, best: Settings, seconds: float
    ) -> None:
        """Write the measured speeds and the choice to the log and the run's record."""
        medians = {settings: statistics.median(values) for settings, values in speeds.items() if values}
        gain = paired_gain(speeds, best, default)
        lines = [f"train steps measured in {seconds:.1f} s:"]
        for settings, median in sorted(medians.items(), key=lambda item: -item[1]):
            marks = [mark for mark, one in (("the default", default), ("chosen", best)) if settings == one]
            lines.append(f"  {median:10,.0f} images/s  {settings}{'  <- ' + ', '.join(marks) if marks else ''}")
        if unmeasured := len(speeds) - len(medians):
            lines.append(f"  {unmeasured} not measured within max_seconds={self.max_seconds:g}")
        lines.append(f"gain over the default: {gain:.2f}x")
        log.info("\n".join(lines))
        candidates = [asdict(settings) | {"images_per_second": round(speed, 1)} for settings, speed in medians.items()]
        RunRecord.add_entries(
            trainer, cpu_tuning={"candidates": candidates, "chosen": asdict(best), "gain": gain, "seconds": seconds}
        )

    def apply(self, settings: Settings, trainer: L.Trainer, pl_module: Any) -> None:
        """Apply settings to training."""
        torch.set_num_threads(settings.threads)
        if self.memory_format is not None:
            if trainer.world_size == 1:  # with several processes, done in setup()
                pl_module.net.to(memory_format=MEMORY_FORMATS[settings.memory_format])
            self._undo.append(partial(pl_module.net.to, memory_format=torch.contiguous_format))
        before = trainer.strategy.precision_plugin
        trainer.strategy.precision_plugin = plugin(settings.precision, trainer)
        self._undo.append(partial(setattr, trainer.strategy, "precision_plugin", before))
        if settings.precision == "bf16-mixed":
            warn_if_emulated()
        if settings.compiled and not is_compiled(pl_module.net):
            pl_module.net.compile()
            self._undo.append(partial(setattr, pl_module.net, "_compiled_call_impl", None))


def is_compiled(net: nn.Module) -> bool:
    """Return whether a net is compiled."""
    return net._compiled_call_impl is not None


def plugin(precision: str, trainer: L.Trainer) -> Any:
    """Return Lightning's plugin for a precision: the trainer's own if that is its precision."""
    if precision == trainer.precision:
        return trainer.strategy.precision_plugin
    if precision == "bf16-mixed":
        return MixedPrecision("bf16-mixed", device="cpu")
    return L.pytorch.plugins.precision.Precision()


def match_state_strides(optimizer: Optimizer) -> None:
    """Give every tensor of an optimizer's state the strides of its parameter."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
