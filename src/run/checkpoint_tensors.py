"""Check the tensors of a checkpoint before they are used, because torch's kernels trust their shapes."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from src.system.safe_files import printable

COUNTERS = ("step", "eta", "mu", "mu_product")  # have one element, whatever the shape of the parameter


class CheckedOptimizers(L.Callback):
    """Check the optimizer states of a checkpoint before they are loaded."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Register the check, after the optimizers are built and before their states are loaded."""
        for optimizer in trainer.optimizers:
            optimizer.register_load_state_dict_pre_hook(check_optimizer_state)


def check_optimizer_state(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    """Check that a state fits an optimizer, since fused kernels write as many elements as the parameter has.

    Raises:
        ValueError: names the first entry that does not match its parameter.
    """
    groups = state_dict.get("param_groups")
    states = state_dict.get("state")
    if not isinstance(states, dict) or not isinstance(groups, list) or len(groups) != len(optimizer.param_groups):
        raise optimizer_state_error("its parameter groups are not those of the optimizer")
    for theirs, ours in zip(groups, optimizer.param_groups, strict=True):
        check_options(theirs, ours)
    keys = chain.from_iterable(group["params"] for group in groups)
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    exact = "fused" in optimizer.defaults  # other optimizers, such as Adafactor, keep states of other shapes
    for key, parameter in zip(keys, parameters, strict=True):
        state = states.get(key, {})
        if not isinstance(state, dict):
            raise optimizer_state_error(f"the entry of parameter {key} is not a dict but {type(state).__name__}")
        for name, value in state.items():
            where = f"{printable(str(name))} of parameter {key}"
            if isinstance(value, Tensor):
                shape = value.shape if name in COUNTERS or not exact else parameter.shape
                if name in COUNTERS and value.numel() != 1:
                    raise optimizer_state_error(f"{where} has {value.numel()} elements instead of one")
                if fault := tensor_mismatch(value, shape, torch.float32 if name in COUNTERS else parameter.dtype):
                    raise optimizer_state_error(f"{where} {fault}")
                if not is_dense(value):
                    raise optimizer_state_error(f"{where} has elements that share memory, or gaps between them")
            elif exact and not (value is None or type(value) in (int, float, bool)):
                raise optimizer_state_error(f"{where} is {kind_of(value)}")


def check_options(theirs: Any, ours: Mapping[str, Any]) -> None:
    """Check that a parameter group of a checkpoint has the size and the option types of the optimizer's.

    Raises:
        ValueError: it differs.
    """
    if not isinstance(theirs, dict) or not isinstance(theirs.get("params"), list):
        raise optimizer_state_error("a group has no list of parameters")
    if len(theirs["params"]) != len(ours["params"]) or not all(type(key) is int for key in theirs["params"]):
        raise optimizer_state_error(
            f"a group lists {len(theirs['params'])} parameters, where the optimizer has {len(ours['params'])}"
        )
    for name, value in theirs.items():
        if isinstance(value, Tensor) and not (isinstance(ours.get(name), Tensor) and value.numel() == 1):
            raise optimizer_state_error(f"its option {printable(str(name))} is a tensor")


@torch.no_grad()
def restore(weights: Mapping[str, Tensor], stored: Mapping[str, Any], what: str) -> None:
    """Copy the tensors of a checkpoint into weights of the same names.

    Raises:
        ValueError: one is missing, or of another shape or type; `what` says which tensors these are.
    """
    for name, weight in weights.items():
        if fault := tensor_mismatch(stored.get(name), weight.shape, weight.dtype):
            raise ValueError(f"The checkpoint's {what} do not match this run: {name} {fault}.")
        weight.copy_(stored[name])


def tensor_mismatch(value: Any, shape: torch.Size, dtype: torch.dtype) -> str | None:
    """Return how a value differs from a tensor of the given shape and dtype kind; None if it does not.

    The precision may differ: float16 matches float32.
    """
    if not isinstance(value, Tensor):
        return f"is {kind_of(value)}"
    if fault := tensor_fault(value):
        return fault
    if (kind := dtype_kind(value.dtype)) != (expected := dtype_kind(dtype)):
        return f"holds {kind} instead of {expected}"
    if value.shape != shape:
        return f"has the shape {tuple(value.shape)} instead of {tuple(shape)}"
    return None


def entry_fault(name: Any, value: Any) -> str | None:
    """Return what is wrong with a state_dict entry (name not a string, or not a plain tensor); None if valid."""
    if not isinstance(name, str):
        return "is not a name"
    return tensor_fault(value) if isinstance(value, Tensor) else f"is {kind_of(value)}"


def shape_and_kind(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Describe the shape of each tensor, and its dtype kind unless that is floats."""

    def describe(value: Tensor) -> str:
        kind = dtype_kind(value.dtype)
        return str(tuple(value.shape)) if kind == "floats" else f"{tuple(value.shape)} of {kind}"

    return {name: describe(value) for name, value in weights.items()}


def tensor_fault(value: Tensor) -> str | None:
    """Return why a tensor is not plain data in memory (sparse, quantized or meta); None if it is."""
    if value.layout != torch.strided:
        return f"is {str(value.layout).removeprefix('torch.')}"
    if value.is_quantized:
        return "is quantized"
    return f"is on the device {value.device}" if value.device.type == "meta" else None


def is_dense(value: Tensor) -> bool:
    """Return whether a tensor's elements are in memory without gaps or overlaps, in any order of its dimensions."""
    expected = 1
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size == 0:
            return True
        if size > 1 and stride != expected:
            return False
        expected *= size
    end = (value.storage_offset() + value.numel()) * value.element_size()
    return bool(end <= value.untyped_storage().nbytes())


def dtype_kind(dtype: torch.dtype) -> str:
    """Name the kind of numbers of a dtype."""
    return "complex numbers" if dtype.is_complex else "floats" if dtype.is_floating_point else "integers"


def kind_of(value: Any) -> str:
    """Describe the type of a value that should be a tensor."""
    return f"not a tensor but {type(value).__name__}"


def optimizer_state_error(fault: str) -> ValueError:
    """Create the error for an optimizer state that cannot be loaded."""
    return ValueError(
        f"The optimizer's state in the checkpoint does not match this run: {fault}; to load only its weights, use "
        "init_from=….ckpt instead of resume= and ckpt_path=."
    )
