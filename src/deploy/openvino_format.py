"""OpenVINO's intermediate representation; int8 by NNCF."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from src.deploy.inference_net import CONVOLUTIONS, error_summary, has_attention, has_recurrence, layers, quiet, trace
from src.deploy.nncf_quantization import Operation, compress_dense_layers, quantize, raw_input_operations
from src.predictor import openvino_core, without_telemetry

without_telemetry()

import openvino as ov

FILE = "model.xml"
KINDS_BY_LAYER = {"convolution": ("Convolution", "GroupConvolution"), "linear": ("MatMul",)}


def write(net: nn.Module, input_shape: Sequence[int], folder: Path, precision: str) -> None:
    """Write a net as `model.xml` and `model.bin`; for bf16, weights are stored in 16 bits."""
    model, *_ = convert(net, input_shape)
    ov.save_model(model, folder / FILE, compress_to_fp16=precision == "bf16")


def write_int8(
    net: nn.Module,
    input_shape: Sequence[int],
    folder: Path,
    mode: str,
    images: torch.Tensor,
    keep: Collection[str],
) -> list[str]:
    """Write a quantised net; returns the names of the layers whose kernels compute in int8 on this machine.

    Args:
        net: see `inference_copy`.
        input_shape: (C, H, W).
        folder: the folder to write `model.xml` and `model.bin` to.
        mode: "static": convolutions and dense layers, by the ranges of their values on `images`; "dynamic": the dense
            layers, with weights quantised now and inputs at run time.
        images: (N, C, H, W).
        keep: names of layers that stay in float32.
    """
    model, names, uses_attention = convert(net, input_shape)
    dynamic = mode == "dynamic"
    kept = [node for node, name in names.items() if name in keep or (dynamic and node.startswith("convolution"))]
    if dynamic:
        quantised = compress_dense_layers(model, kept)
    else:
        samples = [image[None].numpy() for image in images]
        kept += raw_input_operations(
            map(as_operation, model.get_ordered_ops()), [model.input().node.get_friendly_name()]
        )
        quantised = quantize(model, samples, uses_attention, kept)
    ov.save_model(quantised, folder / FILE, compress_to_fp16=False)
    computed = computed_in_int8(folder / FILE)
    return [name for node, name in names.items() if node.partition("/")[0] in computed]


def as_operation(node: Any) -> Operation:
    """Describe a node of a model; values are named after the nodes that produce them."""
    name = node.get_friendly_name()
    operands = [value.get_node().get_friendly_name() for value in node.input_values()]
    return Operation(name, node.get_type_name(), operands, [name])


def convert(net: nn.Module, input_shape: Sequence[int]) -> tuple[Any, dict[str, str], bool]:
    """Return a net as an OpenVINO model, its nodes' module names, and whether it uses attention.

    Raises:
        ValueError: OpenVINO has no rule for one of the net's operators.
    """
    program = trace(net, input_shape)
    if has_recurrence(program):
        return convert_onnx(program)
    with quiet("openvino"):
        try:
            model = ov.convert_model(program)
        except Exception as error:
            raise ValueError(f"The net cannot be exported to OpenVINO: {error_summary(error)}") from error
    model.reshape(ov.PartialShape([-1, *input_shape]))
    names: dict[str, str] = {}
    for layer, kinds in KINDS_BY_LAYER.items():  # like torch, OpenVINO numbers the calls of each kind
        nodes = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in kinds]
        numbered = {int(number[1] or 0): name for name in nodes if (number := re.match(rf"{layer}_?(\d*)/", name))}
        called = [
            module
            for node, module in layers(program).items()
            if (str(node.target) in CONVOLUTIONS) == (layer == "convolution")
        ]
        if len(numbered) != len(called):
            raise ValueError(f"OpenVINO has made {len(numbered)} nodes of the net's {len(called)} {layer} layers.")
        names |= {node: module for (_, node), module in zip(sorted(numbered.items()), called, strict=True)}
    return model, names, has_attention(program)


def convert_onnx(program: ExportedProgram) -> tuple[Any, dict[str, str], bool]:
    """Convert a traced net through ONNX, which keeps recurrent layers whole; OpenVINO would unroll their steps.

    Raises:
        ValueError: see `src.deploy.onnx_format.convert`.
    """
    from src.deploy import onnx_format

    onnx_model, onnx_names, uses_attention = onnx_format.convert(program)
    model = openvino_core(ov).read_model(onnx_model.SerializeToString())
    results = {node.output[0]: node.name for node in onnx_model.graph.node if node.name in onnx_names}
    for operation in model.get_ordered_ops():
        if (name := operation.get_friendly_name()) in results:  # the sum after a product is named after its result
            operation.set_friendly_name(f"{results[name]}/{name}")
    kinds = [kind for kinds in KINDS_BY_LAYER.values() for kind in kinds]
    nodes = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in kinds]
    modules = {node: onnx_names.get(node.partition("/")[0]) for node in nodes}  # some nodes become several
    return model, {node: name for node, name in modules.items() if name}, uses_attention


def computed_in_int8(path: Path) -> set[str]:
    """Return the layers, such as `convolution_1`, whose kernels in the compiled model take int8 on this machine."""
    compiled = openvino_core(ov).compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names: set[str] = set()
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = {key: value.astype(str) for key, value in node.get_rt_info().items()}
        if facts["layerType"] in ("Convolution", "FullyConnected", "MatMul") and facts["runtimePrecision"] in (
            "u8",
            "i8",
        ):
            names |= {name.partition("/")[0] for name in facts["originalLayersNames"].split(",")}
    return names
