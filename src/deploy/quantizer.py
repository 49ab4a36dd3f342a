"""Quantise a trained net to int8, and keep sensitive layers in float32 if the score drops too much."""

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from src.deploy.agreement import Agreement, agreement, check, metrics_of
from src.deploy.exporting import Batches, size_mb, staged, take_inputs, write_card
from src.deploy.fake_quantization import by_sensitivity, fine_tune
from src.deploy.formats import check_format, load_format
from src.deploy.inference_net import inference_copy, layers, torch_runner, trace
from src.models.compiling import first_line
from src.models.task import Task
from src.predictor import input_shape, load
from src.speed.measure import check_choice

log = logging.getLogger(__name__)

MODES = ("static", "dynamic", "qat")
SENSITIVITY_IMAGES = 128
SHARES = (0.1, 0.25)  # shares of the layers, the most sensitive first, that stay in float32 if needed


@dataclass
class Quantized:
    """An int8 model that was written, and the attempts that led to it."""

    folder: Path
    size_mb: float
    test: Agreement
    layers: list[str]  # that compute in int8
    all_layers: list[str]
    kept: list[str]  # layers kept in float32 to preserve the score
    attempts: list[str]  # what was tried, and its change in score on the validation images

    @property
    def in_float32(self) -> list[str]:
        """Return the layers that compute in float32: those that were kept, and those that the library skipped."""
        return [name for name in self.all_layers if name not in self.layers]

    @property
    def layer_counts(self) -> dict[str, int]:
        """Return the number of layers that compute in int8, and of all layers."""
        return {"layers": len(self.layers), "layers_total": len(self.all_layers)}

    def remarks(self, max_drop: float) -> list[str]:
        """Return remarks to print with the metrics: layers in float32, what was tried, too large a drop."""
        lines = [f"int8 model: {self.folder}; {len(self.layers)} of {len(self.all_layers)} layers compute in int8"]
        if self.in_float32:
            named = [f"{name} (for {self.test.score})" if name in self.kept else name for name in self.in_float32]
            lines.append(f"in float32: {', '.join(named)}")
        if len(self.attempts) > 1:
            lines += [f"tried: {attempt}" for attempt in self.attempts]
        if self.test.drop > max_drop:
            lines.append(
                f"WARNING: the int8 model is worse than the net by {self.test.described_drop} on the test images, more "
                f"than max_drop={max_drop:g}. mode=qat may lose less."
            )
        return lines


class NothingQuantized(ValueError):
    """No layer of the model computes in int8."""


class Quantizer:
    """Quantise a copy of a trained net to int8, per channel, within an allowed drop of the score.

    Whether an attempt is good enough is decided on validation images; the test images are used once, for the report.
    If quantisation costs too much, the first and the last layer stay in float32, then also the most sensitive tenth,
    then quarter.

    Args:
        mode: "static": by the ranges of values on training images; "dynamic": dense layers only, with input ranges
            measured at run time; "qat": quantisation-aware training for some epochs, then static.
        format: "openvino", "onnx" or "torch".
        max_drop: how much worse the score may be than the net's: in points (0.01) where it is maximised, in percent
            where it is minimised.
        calibration_images: images of the training set, for the ranges.
        epochs: epochs of training with rounded values.
        lr: the learning rate that training starts from.

    Raises:
        ValueError: the mode or format is unknown, or a number is out of range.
        ModuleNotFoundError: names the missing packages.
    """

    def __init__(
        self,
        mode: str = "static",
        format: str = "openvino",
        max_drop: float = 1.0,
        calibration_images: int = 300,
        epochs: int = 1,
        lr: float = 1e-4,
    ) -> None:
        check_choice("mode", mode, MODES)
        check_format(format, "int8")
        for name, value in {"calibration_images": calibration_images, "epochs": epochs}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if max_drop < 0:
            raise ValueError(f"max_drop={max_drop} must not be negative.")
        if lr <= 0:
            raise ValueError(f"lr={lr} must be above 0.")
        self.mode, self.format, self.max_drop = mode, format, max_drop
        self.calibration_images, self.epochs, self.lr = calibration_images, epochs, lr

    def __call__(
        self,
        model: Task,
        input_card: Mapping[str, Any],
        batches: Mapping[str, Batches],
        folder: Path,
        strict: bool = False,
    ) -> Quantized:
        """Quantise a task's net.

        Args:
            model: the task; neither it nor its net is changed.
            input_card: the card of its data.
            batches: functions that create new loaders of "train", "val" and "test".
            folder: created only on success; replaces an earlier export of that name.
            strict: raise an error, not a warning, if the score drops too much on the test images.

        Raises:
            ValueError: nothing was quantised, or there are no validation images; or see `check` and `load_format`.
        """
        writer = load_format(self.format, "int8")
        shape, card = input_shape(input_card), model.card(input_card)
        net = inference_copy(model.net, shape)
        reference = torch_runner(copy.deepcopy(model.net), list(card["outputs"]))
        names = list(dict.fromkeys(layers(trace(net, shape)).values()))
        roundable = [name for name in names if isinstance(net.get_submodule(name), nn.Conv1d | nn.Conv2d | nn.Linear)]
        if not roundable:
            raise ValueError(f"{type(net).__name__} has neither convolutions nor dense layers to quantise.")
        if self.mode == "qat":
            log.info("training %d layers with rounded values: epochs=%d", len(roundable), self.epochs)
            fine_tune(model, net, roundable, batches["train"], self.epochs, self.lr)
        images = take_inputs(map(model.prepare, batches["train"]()), self.calibration_images, shape)
        mode = "dynamic" if self.mode == "dynamic" else "static"
        candidates = [name for name in roundable if mode != "dynamic" or isinstance(net.get_submodule(name), nn.Linear)]
        tried: list[tuple[float, list[str], list[str]]] = []  # drop, layers kept, layers quantised
        attempts: list[str] = []

        def attempt(stage: Path, keep: list[str]) -> Agreement:
            try:
                computed = writer.write_int8(net, shape, stage, mode, images, keep)
            except Exception as error:  # libraries raise exceptions of any type
                raise ValueError(
                    f"{self.format} cannot quantise {type(net).__name__}: {first_line(error)[:300]}"
                ) from error
            if not computed:
                raise NothingQuantized(
                    f"{self.format} has quantised none of the {len(names)} layers of {type(net).__name__}."
                )
            write_card(stage, card, model.net, self.format, "int8", writer.FILE)
            result = agreement(load(stage, trusted=True).run, reference, batches["val"](), model, card["outputs"])
            tried.append((result.drop, keep, computed))
            kept = f"{len(keep)} layers in float32 ({', '.join(keep)})" if keep else "all layers"
            attempts.append(f"{kept}: {result.described_change} on {result.images} validation images")
            log.info("%s, %s", self.mode, attempts[-1])
            return result

        with staged(folder) as stage:
            first = attempt(stage, [])
            if first.equal is not None and 100 / first.images > max(self.max_drop, 0.01):
                log.warning("max_drop=%g is less than one of %d validation images.", self.max_drop, first.images)
            if first.drop > self.max_drop:
                for keep in layers_to_keep(net, candidates, images[:SENSITIVITY_IMAGES]):
                    with suppress(NothingQuantized):
                        if attempt(stage, keep).drop <= self.max_drop:
                            break
                else:
                    attempt(stage, min(tried, key=lambda one: one[0])[1])  # write the best of them again
            _, keep, computed = tried[-1]
            test = agreement(load(stage, trusted=True).run, reference, batches["test"](), model, card["outputs"])
            if strict:
                check(test, f"{self.format} int8", "int8", self.max_drop)
            details = {
                "quantization": self.mode,
                "int8_layers": computed,
                "layers": names,
                "attempts": attempts,
                **metrics_of(test),
            }
            write_card(stage, card, model.net, self.format, "int8", writer.FILE, details)
        return Quantized(folder, size_mb(folder), test, computed, names, keep, attempts)


def layers_to_keep(net: nn.Module, names: Sequence[str], images: Any) -> Iterable[list[str]]:
    """Yield layers to keep in float32: the first and the last, then also the most sensitive tenth, then quarter."""
    ends = list(dict.fromkeys([names[0], names[-1]]))
    if len(names) > len(ends):
        yield ends
    others = [name for name in by_sensitivity(net, names, images) if name not in ends]
    for share in SHARES:
        count = round(share * len(names))
        if 0 < count < len(others):
            yield [*ends, *others[:count]]
