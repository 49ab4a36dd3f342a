"""Static quantisation by NNCF, of OpenVINO and of ONNX models alike."""

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
    inputs: Sequence[str]  # the names of the values that it takes
    outputs: Sequence[str]


def beside_layers(operations: Iterable[Operation], inputs: Iterable[str]) -> list[str]:
    """Return the names of the operations that compute with a model's inputs as no layer has seen them.

    They bring a series to a common level and spread, and a forecast back to its own. A new series may leave the ranges
    of the samples by far, and eight bits would round its level.

    Args:
        operations: the operations, in the order in which they are computed.
        inputs: the names of the model's inputs.
    """
    unseen, computed, found = set(inputs), set(inputs), []  # values: made of inputs and constants; of any input
    for name, kind, taken, made in operations:
        varying = [value for value in taken if value in computed]
        if varying:
            computed.update(made)
        if kind in ARITHMETIC and unseen.intersection(varying):
            found.append(name)
            if unseen.issuperset(varying):
                unseen.update(made)
        elif kind in MOVES and taken[0] in unseen:
            unseen.update(made)
    return found


def quantize(model: Any, samples: Sequence[Any], uses_attention: bool, kept: Sequence[str]) -> Any:
    """Quantise weights per channel and values by their ranges on some samples.

    Args:
        model: a model of OpenVINO or ONNX.
        samples: inputs of single images.
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
                # processors without VNNI add products in int16, which weights of 8 bits overflow: 7 do not
                overflow_fix=OverflowFix.ENABLE,
                # the default, means of the samples' extremes, clips: 14 % of a TCN's range of outputs were lost
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                # SmoothQuant scales a dense layer wrongly whose input is (B, D): a ViT's head lost 38 points by it
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1),
            ),
        )


def compress_dense_layers(model: Any, kept: Sequence[str]) -> Any:
    """Turn the weights of an OpenVINO model's layers to int8 per channel; those of the kept nodes stay as they are."""
    with quiet("nncf"):
        ignored = nncf.IgnoredScope(names=list(kept))
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=ignored)
