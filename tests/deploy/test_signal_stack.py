"""Signals are handled on a valid stack, whatever OpenVINO does on processors with AVX-512."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from src.deploy.nncf_quantization import compress_dense_layers, quantize
from src.deploy.openvino_format import computed_in_int8
from src.predictor import start_openvino

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems describe the stack in another way")
SS_DISABLE = 2  # signals are handled on the stack of the program


class Stack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@pytest.fixture
def signal_stack() -> Iterator[Callable[[], Stack]]:
    """Return a function that reads this thread's signal stack, which is restored at the end for the other tests."""

    def signal_stack_() -> Stack:
        stack = Stack()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
        return stack

    before = signal_stack_()
    yield signal_stack_
    ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def test_openvino_leaves_no_freed_stack(tmp_path: Path, signal_stack: Callable[[], Stack]) -> None:
    values = ops.parameter([-1, 4], np.float32, name="values")
    weights = ops.constant(np.eye(4, dtype=np.float32))
    model, sample = ov.Model([ops.matmul(values, weights, False, False)], [values]), np.ones((1, 4), np.float32)
    ov.save_model(quantize(model, [sample], uses_attention=False, kept=()), tmp_path / "model.xml")
    card = {"precision": "int8", "outputs": ["class"]}
    runs = [start_openvino(ov, tmp_path / "model.xml", card, threads=1, compiled=True)]
    computed_in_int8(tmp_path / "model.xml")
    runs.append(start_openvino(ov, tmp_path / "model.xml", card, threads=1, compiled=True))
    while runs:
        runs.pop(0)(sample)  # the first one created is the first to end
        compress_dense_layers(model, ())
    stack = signal_stack()
    ranges = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    mapped = (int(start, 16) <= (stack.address or 0) < int(end, 16) for start, end in ranges)
    assert stack.flags & SS_DISABLE or any(mapped)
