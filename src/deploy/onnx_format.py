"""ONNX, for ONNX Runtime and others; int8 as quantise and dequantise nodes around the layers."""

import ast
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from src.deploy.inference_net import error_summary, has_attention, layers, quiet, trace
from src.predictor import without_telemetry

FILE = "model.onnx"
KINDS = ("Conv", "Gemm", "MatMul")
# operations that do not change int8 values
MOVES = ("Flatten", "Gather", "GatherElements", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
SCOPE = "pkg.torch.onnx.name_scopes"  # where torch's exporter notes the modules of a node


def write(net: nn.Module, input_shape: Sequence[int], folder: Path, precision: str) -> None:
    """Write a net as `model.onnx`."""
    onnx.save(convert(trace(net, input_shape))[0], folder / FILE)


def write_int8(
    net: nn.Module, input_shape: Sequence[int], folder: Path, mode: str, images: Tensor, keep: Collection[str]
) -> list[str]:
    """Write a quantised net; returns the names of the layers that take their inputs and weights from int8.

    Args:
        net: see `inference_copy`.
        input_shape: (C, H, W).
        folder: the folder to write `model.onnx` to.
        mode: "static": convolutions and dense layers, by the ranges of their values on `images`, with NNCF; "dynamic":
            the dense layers, with input ranges measured at run time, by ONNX Runtime's own tool.
        images: (N, C, H, W).
        keep: names of layers that stay in float32.
    """
    model, names, uses_attention = convert(trace(net, input_shape))
    kept = [node for node, name in names.items() if name in keep]
    if mode == "dynamic":
        without_telemetry()
        from onnxruntime.quantization import QuantType, quantize_dynamic

        del model.graph.value_info[:]  # shapes of weights, which the tool transposes
        with quiet("root"):
            quantize_dynamic(
                model,
                folder / FILE,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[*kept, *(f"{node}_MatMul" for node in kept)],  # as the tool renames a Gemm
            )
        computed = {node.name for node in onnx.load(folder / FILE).graph.node if node.op_type == "MatMulInteger"}
        return [name for node, name in names.items() if {f"{node}_quant", f"{node}_MatMul_quant"} & computed]
    from src.deploy.nncf_quantization import Operation, quantize, raw_input_operations

    operations = [Operation(node.name, node.op_type, node.input, node.output) for node in model.graph.node]
    kept += raw_input_operations(operations, [model.graph.input[0].name])
    samples = [{model.graph.input[0].name: image[None].numpy()} for image in images]
    quantised = quantize(model, samples, uses_attention, kept)
    onnx.save(quantised, folder / FILE)
    makers = {output: node for node in quantised.graph.node for output in node.output}

    def is_dequantised(value: str) -> bool:
        while value in makers and makers[value].op_type in MOVES:
            value = makers[value].input[0]
        if value in makers and makers[value].op_type == "Concat":
            return all(map(is_dequantised, makers[value].input))
        return value in makers and makers[value].op_type == "DequantizeLinear"

    from_int8 = {node.name for node in quantised.graph.node if all(map(is_dequantised, node.input[:2]))}
    return [name for node, name in names.items() if node in from_int8]


def convert(program: ExportedProgram) -> tuple[Any, dict[str, str], bool]:
    """Return a traced net as an ONNX model, its nodes' module names, and whether it uses attention.

    Raises:
        ValueError: ONNX has no function for one of the net's operators.
    """
    with quiet("torch.onnx", "onnxscript", "onnx_ir"):
        try:
            exported = torch.onnx.export(program, dynamo=True, verbose=False, optimize=True)
        except Exception as error:
            raise ValueError(f"The net cannot be exported to ONNX: {error_summary(error)}") from error
    model = exported.model_proto  # type: ignore[union-attr]
    called = {node.name: name for node, name in layers(program).items()}
    names = {}
    for node in model.graph.node:
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = ast.literal_eval(notes.get(SCOPE, "['']"))  # the modules, outermost first, and torch's own node
        if node.op_type in KINDS and scopes[-1] in called:
            names[node.name] = called[scopes[-1]]
    return model, names, has_attention(program)
