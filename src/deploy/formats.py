"""The formats a net can be exported to, and the packages that each needs."""

import importlib
import importlib.util
from collections.abc import Sequence
from types import ModuleType

EXTRA = "deploy"
PACKAGES = {"openvino": ("openvino", "nncf"), "onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}
INT8_PACKAGES = {"openvino": ("nncf",), "onnx": ("nncf",), "torch": ("torchao",)}
# ONNX Runtime has no bfloat16 kernels for the CPU
PRECISIONS = {"openvino": ("fp32", "bf16", "int8"), "onnx": ("fp32", "int8"), "torch": ("fp32", "bf16", "int8")}
EXAMPLES = {"formats": "onnx", "precisions": "fp32,int8"}


def check_format(name: str, precision: str) -> None:
    """Check that a format exists in a precision and that the packages it needs are installed; none of them is imported.

    Raises:
        ValueError: there is no such format, or not in this precision.
        ModuleNotFoundError: names the missing packages, and the extra that installs them.
    """
    if name not in PACKAGES:
        raise ValueError(f"format={name} must be one of {', '.join(PACKAGES)}.")
    if precision not in PRECISIONS[name]:
        raise ValueError(f"format={name} has no {precision}; it has {', '.join(PRECISIONS[name])}.")
    needed = dict.fromkeys([*PACKAGES[name], *(INT8_PACKAGES[name] if precision == "int8" else ())])
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        raise ModuleNotFoundError(
            f"format={name} needs {', '.join(missing)}, which is not installed: pip install -e '.[{EXTRA}]'"
        )


def load_format(name: str, precision: str) -> ModuleType:
    """Return the module that writes a format, after `check_format`."""
    check_format(name, precision)
    return importlib.import_module(f"src.deploy.{name}_format")


def check_choices(formats: Sequence[str], precisions: Sequence[str]) -> None:
    """Check every combination of formats and precisions, before anything is loaded.

    Raises:
        ValueError: there is no such format or precision, or not this combination.
        ModuleNotFoundError: see `check_format`.
    """
    for name, values in {"formats": formats, "precisions": precisions}.items():
        if isinstance(values, str) or not len(values):
            raise ValueError(f"{name}={values or '[]'} must be a list, such as {name}=[{EXAMPLES[name]}].")
    for precision in precisions:
        if precision not in PRECISIONS["openvino"]:
            raise ValueError(f"precision={precision} must be one of {', '.join(PRECISIONS['openvino'])}.")
        for name in formats:
            check_format(name, precision)
