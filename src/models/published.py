"""Published weights: torchvision and timm hold the tensors of the same net in the same order, under other names."""

from collections.abc import Mapping
from itertools import groupby, zip_longest

import torch
from torch import Tensor, nn

from src.models.components.layers import Heads

KINDS = ("weight", "bias", "running_mean", "running_var")  # tensors of a layer; some files list them in another order
COUNTER = "num_batches_tracked"  # batch norm's counter: has no effect on ours, and older files lack it

Named = tuple[str, Tensor]


def load_published(net: nn.Module, state_dict: Mapping[str, Tensor]) -> tuple[list[Named], list[Named]]:
    """Load weights of the same net under other names, by their order and their shape without dimensions of size 1.

    The last layer keeps its values if its number of classes differs, or if the weights lack it.

    Args:
        net: the net to load the weights into; it is unchanged if they do not fit.
        state_dict: the weights of the published net, in its order, or with the names of `net` in any order.

    Returns:
        The tensors of the net that are not loaded, and those of the state dict that are not used, with their names.

    Raises:
        ValueError: a tensor does not fit; the message names the first.
    """
    ours = net.state_dict()
    if (reordered := reorder_like(ours, state_dict)) is not None:
        state_dict = reordered
    layers, their_layers = layers_of(ours), layers_of(state_dict)
    heads = number_of_heads(net, layers)
    body, new = flatten_layers(layers[:-heads]), flatten_layers(layers[-heads:])
    has_head = len(flatten_layers(their_layers)) != len(body)
    theirs = flatten_layers(their_layers[:-1] if has_head else their_layers)
    unused = flatten_layers(their_layers[-1:]) if has_head else []
    check_all(net, body, theirs)
    pairs = list(zip(body, theirs, strict=True))
    if len(new) == len(unused) and all(map(fits, new, unused)):
        pairs += zip(new, unused, strict=True)
        new, unused = [], []
    check_all(net, without_classes(new[: len(unused)]), without_classes(unused))
    with torch.no_grad():
        for (_, our_tensor), (_, their_tensor) in pairs:
            our_tensor.copy_(their_tensor.reshape(our_tensor.shape))
    return new, unused


def reorder_like(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return their tensors in our order if the names are the same; None otherwise."""
    names = [name for name in ours if not name.endswith(COUNTER)]
    same = set(names) == {name for name in theirs if not name.endswith(COUNTER)}
    return {name: theirs[name] for name in names} if same else None


def layers_of(state_dict: Mapping[str, Tensor]) -> list[list[Named]]:
    """Return the tensors of each layer by name, layers in the order given and their tensors in that of `KINDS`."""
    named = [(name, tensor) for name, tensor in state_dict.items() if not name.endswith(COUNTER)]
    layers = [list(layer) for _, layer in groupby(named, key=lambda one: one[0].rpartition(".")[0])]
    return [sorted(layer, key=lambda one: kind_index(one[0])) for layer in layers]


def kind_index(name: str) -> int:
    """Return the position of a tensor's kind in `KINDS`, and the number of kinds for any other."""
    leaf = name.rpartition(".")[2]
    return KINDS.index(leaf) if leaf in KINDS else len(KINDS)


def number_of_heads(net: nn.Module, layers: list[list[Named]]) -> int:
    """Return how many layers at the end of a net are heads."""
    prefixes = tuple(f"{name}." for name, module in net.named_modules() if isinstance(module, Heads))
    return sum(layer[0][0].startswith(prefixes) for layer in layers) if prefixes else 1


def fits(ours: Named, theirs: Named) -> bool:
    """Return whether a tensor can be loaded into ours: of the same kind, dtype kind and shape."""
    kinds = {kind_index(ours[0]), kind_index(theirs[0])} - {len(KINDS)}
    shapes = [[size for size in tensor.shape if size != 1] for _, tensor in (ours, theirs)]
    floats = [tensor.is_floating_point() for _, tensor in (ours, theirs)]
    return len(kinds) < 2 and shapes[0] == shapes[1] and floats[0] == floats[1] and not theirs[1].is_complex()


def without_classes(layer: list[Named]) -> list[Named]:
    """Return the tensors (classes, …) of a last layer as if there were one class."""
    return [(name, tensor[:1]) for name, tensor in layer]


def flatten_layers(layers: list[list[Named]]) -> list[Named]:
    """Return the tensors of all layers."""
    return [named for layer in layers for named in layer]


def check_all(net: nn.Module, ours: list[Named], theirs: list[Named]) -> None:
    """Check that each tensor fits the one at the same position of the net.

    Raises:
        ValueError: a tensor does not fit; the message names the first.
    """
    for our, their in zip_longest(ours, theirs):
        if our is None or their is None or not fits(our, their):
            raise ValueError(
                f"The weights are from a different net: {type(net).__name__} has {describe_tensor(our)}, the file has "
                f"{describe_tensor(their)}."
            )


def describe_tensor(named: Named | None) -> str:
    """Describe a tensor by its name and shape."""
    return "nothing" if named is None else f"{named[0]} {tuple(named[1].shape)}"
