"""Prepare a trained net for export: fold norms into layers, trace the whole net, and name its layers."""

import copy
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from rich import get_console
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from src.models.example_inputs import example_inputs
from src.system.wording import first_line

CONVOLUTIONS = tuple(f"aten.conv{n}d.{kind}" for n in (1, 2, 3) for kind in ("default", "padding"))
LAYERS = (*CONVOLUTIONS, "aten.linear.default")
ATTENTION = "aten.scaled_dot_product_attention.default"
RECURRENCES = ("aten.lstm.input", "aten.gru.input")


def inference_copy(net: nn.Module, input_shape: Sequence[int]) -> nn.Module:
    """Return a copy that computes the same function faster, in evaluation mode.

    Batch norms are folded into the layer before them, a ReLU after a max-pool comes before it (int8 kernels then
    compute both within the convolution), and an adaptive pool that does not change the size is removed.

    Args:
        net: maps inputs (B, …) to outputs (B, …).
        input_shape: shape of one input; see `src.models.task.Task`.
    """
    net = copy.deepcopy(net).eval().to(memory_format=torch.contiguous_format)
    program = trace(net, input_shape)
    weights = program.graph_signature.inputs_to_parameters  # by the names of the graph's inputs
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    calls = Counter(module_name(node) for node in nodes if str(node.target) != "aten.sym_size.int")

    def called_once(node: Any, kind: type) -> bool:
        return isinstance(node, Node) and calls[module_name(node)] == 1 and isinstance(module_of(net, node), kind)

    # the weight is used unchanged, and the norm uses its running statistics
    def is_plain(layer: Node, norm: Node) -> bool:
        own = weights.get(str(layer.args[1])) == f"{module_name(layer)}.weight"
        return own and module_of(net, norm).running_mean is not None

    for node in nodes:
        before = node.args[0] if node.args else None
        if not isinstance(before, Node) or len(before.users) != 1:
            continue
        module, previous = module_of(net, node), module_of(net, before)
        if called_once(node, nn.BatchNorm2d) and called_once(before, nn.Conv2d) and is_plain(before, node):
            replace(net, before, fuse_conv_bn_eval(previous, module))
            replace(net, node, nn.Identity())
        elif (
            called_once(node, nn.BatchNorm1d)
            and called_once(before, nn.Linear)
            and before.meta["val"].ndim == 2
            and is_plain(before, node)
        ):
            replace(net, before, fuse_linear_bn_eval(previous, module))
            replace(net, node, nn.Identity())
        elif called_once(node, nn.ReLU) and called_once(before, nn.MaxPool2d):
            replace(net, before, module)
            replace(net, node, previous)
        elif called_once(node, nn.AdaptiveAvgPool2d) and node.meta["val"].shape[2:] == before.meta["val"].shape[2:]:
            replace(net, node, nn.Identity())
    return net.requires_grad_()


def trace(net: nn.Module, input_shape: Sequence[int]) -> ExportedProgram:
    """Trace the whole net as one graph, for batches of any size.

    Raises:
        ValueError: the net does something that torch.export cannot follow, or takes more than one input.
    """
    with quiet("torch.export", "torch.fx"):
        try:
            return torch.export.export(net, (example_inputs(2, input_shape),), dynamic_shapes=({0: Dim("batch")},))
        except Exception as error:  # tracers raise exceptions of any type
            raise ValueError(
                f"The net cannot be exported: torch.export cannot follow it. {error_summary(error)}"
            ) from error


def layers(program: ExportedProgram) -> dict[Node, str]:
    """Return the convolutions and dense layers in the order of their calls, with the names of their modules."""
    return {node: module_name(node) for node in program.graph.nodes if str(node.target) in LAYERS}


def has_attention(program: ExportedProgram) -> bool:
    """Return whether a net has attention."""
    return any(str(node.target) == ATTENTION for node in program.graph.nodes)


def has_recurrence(program: ExportedProgram) -> bool:
    """Return whether a net has recurrent layers."""
    return any(str(node.target) in RECURRENCES for node in program.graph.nodes)


def module_name(node: Node) -> str:
    """Return the qualified name of the module whose forward created a node."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


def module_of(net: nn.Module, node: Node) -> Any:
    """Return the module that created a node; None if it does not belong to the net."""
    return dict(net.named_modules()).get(module_name(node))


def replace(net: nn.Module, node: Node, module: nn.Module) -> None:
    """Replace the module that created a node."""
    net.set_submodule(module_name(node), module)


def error_summary(error: BaseException) -> str:
    """Shorten an exporter's error to the operator that it does not know, else to its first line."""
    unknown = re.search(r"No (?:conversion rule|ONNX function) found for [^\n]*", str(error))
    return unknown[0] if unknown else first_line(error)


def log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Log a warning to Python's own logger for them; configs/hydra/default.yaml keeps it off the terminal."""
    logging.getLogger("py.warnings").info(warnings.formatwarning(message, category, filename, lineno).strip())


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silence exporters: warnings go to the log, and errors are still raised."""
    silenced = (*loggers, "torch.utils")
    # OpenVINO changes root's level when it fails
    before = {name: logging.getLogger(name).level for name in (*silenced, "root")}
    for name in silenced:
        logging.getLogger(name).setLevel(logging.ERROR)
    console = get_console()  # libraries draw their progress bars on it
    console.quiet, was_quiet = True, console.quiet
    try:
        with warnings.catch_warnings():
            warnings.showwarning = log_warning
            yield
    finally:
        console.quiet = was_quiet
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def torch_runner(net: nn.Module, names: Sequence[str]) -> Callable[[Any], dict[str, Any]]:
    """Return a function that runs a torch net like an exported model: from a numpy batch to numpy outputs by name."""
    net.eval()

    def run(images: Any) -> dict[str, Any]:
        with torch.inference_mode():
            outputs = net(torch.from_numpy(images))
        named: dict[str, Tensor] = outputs if isinstance(outputs, dict) else {names[0]: outputs}
        return {name: values.float().numpy() for name, values in named.items()}

    return run
