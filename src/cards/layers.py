"""The layers of a net in the order of a forward pass: their operations, sizes and receptive fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

from src.cards.receptive_field import ReceptiveFields, is_move, tensors_of
from src.cards.walk import ELSEWHERE, Place, Walk, evaluating, is_leaf
from src.models import counting  # noqa: F401  # registers the operations of recurrent layers

# readable names for operations that nets call without a module; others keep torch's name
KINDS = {
    "convolution": "convolution",
    "mm": "matrix product",
    "bmm": "matrix product",
    "addmm": "matrix product",
    "_softmax": "softmax",
    "add": "add",
    "mul": "multiply",
    "cat": "concatenate",
    "constant_pad_nd": "pad",
    "mean": "mean",
    "sum": "sum",
    "amax": "max",
    "_to_copy": "cast",
    "linalg_vector_norm": "norm",
    "max_pool2d_with_indices": "max pool",
    "avg_pool2d": "average pool",
    "_scaled_dot_product_flash_attention_for_cpu": "attention",
}
# not counted as work of a layer: creating and copying tensors
QUIET = {"empty", "empty_like", "arange", "zeros", "ones", "full", "scalar_tensor", "lift_fresh", "detach", "clone"}
QUIET |= {"_to_copy"}


@dataclass
class Layer:
    """A call of a leaf module, or the operations of a module itself between calls of its children.

    Args:
        place: place in the forward pass.
        name: path of the module in the net.
        kind: class of the module, or the operations.
        is_module: false for the operations of a module with children.
        kernel: such as "3×3", "3×3 /2" with a stride of 2, "3×3 d2" with a dilation of 2; empty if there is none.
        shape: shape of the output, without the batch.
        params: trainable parameters, at the first call of the module that holds them.
        macs: multiply-accumulates for one input.
        sees: receptive field: the largest number of input positions along each axis that an output value depends on;
            None if it depends on none.
        sees_all: whether every output value depends on the whole input.
        sources: numbers of the layers whose outputs it reads; -1 is the input.
        memory: peak memory of activations while it runs, for a batch, in bytes.
        kept: bytes saved for the backward pass, for a batch.
        share: share of the time of a forward pass; None if not measured.
    """

    place: Place
    name: str
    kind: str
    is_module: bool
    kernel: str = ""
    shape: tuple[int, ...] = ()
    params: int = 0
    macs: int = 0
    sees: tuple[int, ...] | None = None
    sees_all: bool = False
    sources: set[int] = field(default_factory=set)
    memory: int = 0
    kept: int = 0
    share: float | None = None
    operations: list[str] = field(default_factory=list)


class Trace(TorchDispatchMode):
    """Record the layers of a forward pass as a context manager; see `trace`."""

    def __init__(self, net: nn.Module, inputs: Tensor) -> None:
        super().__init__()
        self.layers: dict[Place, Layer] = {}
        self.fields = ReceptiveFields(inputs)
        self.called: set[str] = set()
        self.walk = Walk(net, entered=self._enter, left=self._leave)
        self._origins: Any = WeakTensorKeyDictionary()  # the layer that created each tensor
        self._origins[inputs] = -1
        self._modules = dict(net.named_modules())
        self._is_describing = False  # hooks run within the pass; their own operations are not part of it

    def _enter(self, place: Place, module: nn.Module) -> None:
        self.called.add(place[0])
        if is_leaf(module):
            self.layers[place] = Layer(place, place[0], type(module).__name__, is_module=True)

    def _leave(self, place: Place, module: nn.Module, output: Any) -> None:
        outputs = tensors_of(output)
        if is_leaf(module) and outputs:
            self._describe_output(self.layers[place], outputs[0])

    def _describe_output(self, layer: Layer, output: Tensor) -> None:
        layer.shape = tuple(output.shape[1:] if output.shape[:1] == (1,) else output.shape)
        self._is_describing = True
        seen = self.fields.of(output)
        self._is_describing = False
        layer.sees, layer.sees_all = (seen.sizes, seen.is_whole) if seen else (None, False)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        options = dict(kwargs or {})
        result = op(*args, **options)
        if self._is_describing:
            return result
        self.fields.follow(op, args, options, result)
        name, outputs = op._schema.name.removeprefix("aten::"), tensors_of(result)
        origins = {self._origins[one] for one in tensors_of((args, options)) if one in self._origins}
        layer = self.layers.get(self.walk.place)
        computes = (not is_move(op) or name in ("cat", "stack")) and name not in QUIET
        computes &= any(one.is_floating_point() for one in outputs)  # not masks and indices
        if layer is None and computes and origins:
            place = self.walk.place
            layer = self.layers[place] = Layer(place, place[0], "", is_module=False)
        if layer is None:  # a view between layers: its values come from the layer before
            for one in outputs:
                self._origins[one] = max(origins, default=-1)
            return result
        number = list(self.layers).index(layer.place)
        layer.sources |= origins - {number}
        for one in outputs:
            self._origins[one] = number
        if computes:
            layer.operations.append(name.removesuffix("_"))
            packet = op._overloadpacket
            if packet in flop_registry:
                layer.macs += flop_registry[packet](*args, **options, out_val=result) // 2
            layer.kernel = layer.kernel or kernel_of(name, args)
        if not layer.is_module and outputs and outputs[0].is_floating_point():
            self._describe_output(layer, outputs[0])
        return result

    def finished(self) -> list[Layer]:
        """Return the layers; each parameter counts in the innermost called module that holds it."""
        counts: dict[str, int] = {}
        seen: set[int] = set()
        for path, module in self._modules.items():
            for parameter in module._parameters.values():
                if parameter is None or not parameter.requires_grad or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                owner = path
                while owner and owner not in self.called:
                    owner = owner.rpartition(".")[0]
                counts[owner] = counts.get(owner, 0) + parameter.numel()
        layers = list(self.layers.values())
        for path, count in counts.items():
            holder = next((one for one in layers if one.name == path), None)
            if holder is None:  # the module computes nothing itself, or was never called
                place = (path, 0, 0) if path in self.called else ELSEWHERE
                holder = Layer(place, path, type(self._modules[path]).__name__, is_module=False)
                layers.append(holder)
            holder.params += count
        for layer in layers:
            if not layer.is_module and layer.operations:
                layer.kind = " · ".join(dict.fromkeys(KINDS.get(one, one.strip("_")) for one in layer.operations))
        return layers


def kernel_of(name: str, arguments: tuple[Any, ...]) -> str:
    """Describe the window of a convolution or a pooling: its size, stride, dilation and groups."""
    if name == "convolution":
        weight, stride, dilation, groups = arguments[1], arguments[3], arguments[5], arguments[8]
        text = window(weight.shape[2:], stride, dilation)
        return f"{text} g{groups}" if groups > 1 else text
    if "_pool" in name and "adaptive" not in name:
        kernel = arguments[1] if isinstance(arguments[1], list | tuple) else [arguments[1]]
        stride = (arguments[2] if len(arguments) > 2 else []) or kernel
        return window(kernel, stride if isinstance(stride, list | tuple) else [stride], [1])
    return ""


def window(kernel: Any, stride: Any, dilation: Any) -> str:
    """Format a window: 3×3, 3×3 /2 with a stride, 3×3 d2 with a dilation."""
    text = "×".join(map(str, kernel))
    for mark, values in (("/", stride), ("d", dilation)):
        if max(values) > 1:
            text += f" {mark}{'×'.join(map(str, dict.fromkeys(values)))}"
    return text


def trace(net: nn.Module, inputs: Tensor) -> tuple[list[Layer], set[str]]:
    """Run a net on an input (1, …) and return its layers, and the operations whose receptive field is unknown.

    Their parameters and MACs add up to the counts of `src.models.counting`.
    """
    with torch.no_grad(), evaluating(net):
        tracer = Trace(net, inputs)
        with tracer.walk, tracer:
            net(inputs)
    return tracer.finished(), tracer.fields.unknown
