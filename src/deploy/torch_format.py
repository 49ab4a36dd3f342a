"""Export to programs of torch.export; int8 by torchao's PT2E path, which torch.compile turns into int8 kernels."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import GraphModule, Node

from src.deploy.inference_net import CONVOLUTIONS, LAYERS, layers, quiet, trace
from src.models.example_inputs import example_inputs

FILE = "model.pt2"


class InBfloat16(nn.Module):
    """Compute a net with weights and arithmetic in bfloat16; inputs and outputs keep their types."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.bfloat16()

    def forward(self, inputs: Tensor) -> Any:
        """Map inputs (B, …) to outputs (B, …)."""
        outputs = self.net(inputs.bfloat16() if inputs.is_floating_point() else inputs)
        return {name: x.float() for name, x in outputs.items()} if isinstance(outputs, dict) else outputs.float()


def write(net: nn.Module, input_shape: Sequence[int], folder: Path, precision: str) -> None:
    """Write a net as `model.pt2`; for bf16 its weights are rounded."""
    program = trace(InBfloat16(net) if precision == "bf16" else net, input_shape)
    with quiet("torch.export"):
        torch.export.save(program, folder / FILE)


def write_int8(
    net: nn.Module, input_shape: Sequence[int], folder: Path, mode: str, images: Tensor, keep: Collection[str]
) -> list[str]:
    """Write a quantised net; returns the names of the layers that compute with int8 weights and inputs.

    Args:
        net: see `inference_copy`.
        input_shape: (C, H, W).
        folder: the folder to write `model.pt2` to.
        mode: "static": convolutions and dense layers, by the ranges of their values on `images`; "dynamic": the dense
            layers, with input ranges measured at run time.
        images: (N, C, H, W).
        keep: names of layers that stay in float32.
    """
    with quiet():
        from torchao.quantization.pt2e import move_exported_model_to_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    program = trace(net, input_shape)
    config = x86.get_default_x86_inductor_quantization_config(is_dynamic=mode == "dynamic")
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(config)
    names = layers(program)
    for node, name in names.items():
        if name in keep or (mode == "dynamic" and str(node.target) in CONVOLUTIONS):
            quantizer.set_module_name_qconfig(name, None)
    with quiet("torchao", "torch.export"), torch.no_grad():
        prepared = prepare_pt2e(program.module(), quantizer)
        for batch in images.split(32):
            prepared(batch)
        quantised = convert_pt2e(prepared)
        move_exported_model_to_eval(quantised)
        drop_unused_tensors(quantised)
        example = (example_inputs(2, input_shape),)
        final = torch.export.export(quantised, example, dynamic_shapes=({0: Dim("batch")},))
        torch.export.save(final, folder / FILE)
    calls = [node for node in final.graph.nodes if str(node.target) in LAYERS]
    return [name for node, name in zip(calls, names.values(), strict=True) if is_quantised(node)]


def is_quantised(layer: Node) -> bool:
    """Return whether a layer takes its input and its weight from int8."""
    return all("dequantize" in str(getattr(argument, "target", "")) for argument in layer.args[:2])


def drop_unused_tensors(module: GraphModule) -> None:
    """Delete parameters and buffers that the graph does not read: the float weights of quantised layers."""
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in [*module.named_parameters(), *module.named_buffers()] if name not in read]:
        parent, _, attribute = name.rpartition(".")
        delattr(module.get_submodule(parent), attribute)
