"""Static quantisation by NNCF, of OpenVINO and of ONNX models alike."""

from collections.abc import Sequence
from typing import Any

from src.deploy.inference_net import quiet
from src.predictor import without_telemetry

without_telemetry()

import nncf


def quantize(model: Any, samples: Sequence[Any], attends: bool, kept: Sequence[str]) -> Any:
    """Quantise weights per channel and values by their ranges on some samples.

    Args:
        model: of OpenVINO or ONNX.
        samples: inputs of single images.
        attends: whether the net has attention.
        kept: names of nodes that stay in float32.
    """
    with quiet("nncf"):
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if attends else None,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=list(kept)),
            # SmoothQuant scales a dense layer wrongly whose input is (B, D): a ViT's head, which lost 38 points by it
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1)
            ),
        )


def compress_dense_layers(model: Any, kept: Sequence[str]) -> Any:
    """Turn the weights of an OpenVINO model's layers to int8 per channel; those of the kept nodes stay as they are."""
    with quiet("nncf"):
        ignored = nncf.IgnoredScope(names=list(kept))
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=ignored)
