"""Static quantisation with NNCF, for OpenVINO and ONNX models."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from src.deploy.inference_net import quiet
from src.predictor import without_telemetry

without_telemetry()

import nncf
from nncf.quantization.advanced_parameters import OverflowFix
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

# operations of OpenVINO and of ONNX
ARITHMETIC = {"Add", "Sub", "Subtract", "Mul", "Multiply", "Div", "Divide", "Pow", "Power", "Sqrt", "ReduceMean", "MVN"}
MOVES = {"Broadcast", "Convert", "Expand", "Gather", "Reshape", "Slice", "StridedSlice", "Tile", "Transpose"}


class Operation(NamedTuple):
    """A node of a model."""

    name: str
    kind: str
    inputs: Sequence[str]  # the names of its input values
    outputs: Sequence[str]


def raw_input_operations(operations: Iterable[Operation], inputs: Iterable[str]) -> list[str]:
    """Return the names of the operations that compute with a model's raw inputs, which have passed no layer.

    They normalise a series, and undo that in its forecast. A new series may lie far outside the ranges of the samples,
    and eight bits would round its level.

    Args:
        operations: the operations, in the order of their computation.
        inputs: the names of the model's inputs.
    """
    raw, computed, names = set(inputs), set(inputs), []  # values: raw, from no layer; computed from any input
    for name, kind, operands, results in operations:
        varying = [value for value in operands if value in computed]
        if varying:
            computed.update(results)
        if kind in ARITHMETIC and raw.intersection(varying):
            names.append(name)
            if raw.issuperset(varying):
                raw.update(results)
        elif kind in MOVES and operands[0] in raw:
            raw.update(results)
    return names


def quantize(model: Any, samples: Sequence[Any], uses_attention: bool, kept: Sequence[str]) -> Any:
    """Quantise weights per channel, and activations by their ranges on some samples.

    Args:
        model: an OpenVINO or ONNX model.
        samples: inputs, one image each.
        uses_attention: whether the net has attention.
        kept: names of nodes that stay in float32.
    """
    with quiet("nncf"):
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if uses_attention else None,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=list(kept)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # processors without VNNI add products in int16, which overflows with 8-bit weights, but not with 7-bit
                overflow_fix=OverflowFix.ENABLE,
                # the default, the mean of the samples' extremes, clips: a TCN lost 14 % of its range of outputs
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                # SmoothQuant scales dense layers with inputs (B, D) wrongly: a ViT's head lost 38 points
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1),
            ),
        )


def compress_dense_layers(model: Any, kept: Sequence[str]) -> Any:
    """Convert the weights of an OpenVINO model's layers to int8 per channel, except those of the kept nodes."""
    with quiet("nncf"):
        ignored = nncf.IgnoredScope(names=list(kept))
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=ignored)
