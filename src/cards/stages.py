"""The stages of a net for its diagram: the parts to draw as one box each, and the data flow between them."""

from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import Any

from torch import nn

from src.cards.layers import Layer

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def stages_of(layers: Sequence[Layer], net: nn.Module) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """Group layers into stages.

    A stage is a block of the net, or a layer with weights and the following layers without. Equal consecutive stages
    are merged.

    Returns:
        For each stage its `name`, `kind` (with windows), `shape`, `params` and `macs` (of one repeat), `repeats`,
        `sees`, `sees_all`, and `sources`: the stages that it reads; -1 is the input. For each layer, the numbers of its
        stage and of the repeat within the stage, from 0.
    """
    modules = dict(net.named_modules())
    groups: list[list[int]] = []
    keys: list[str] = []
    for number, layer in enumerate(layers):
        key = block_of(layer.name, modules)
        if groups and (key == keys[-1] != "" or (follows(layer) and not is_block(modules[keys[-1]]))):
            groups[-1].append(number)
            continue
        groups.append([number])
        keys.append(key)
    stages = [
        stage(key, [layers[number] for number in group], modules) for key, group in zip(keys, groups, strict=True)
    ]
    folded, stage_of = fold(stages, groups)
    for number, (group, _) in stage_of.items():
        origins = {stage_of[source][0] if source >= 0 else -1 for source in layers[number].sources}
        folded[group]["sources"] |= origins - {group}
    return [{**one, "sources": sorted(one["sources"])} for one in folded], [stage_of[one] for one in range(len(layers))]


def block_of(path: str, modules: dict[str, nn.Module]) -> str:
    """Return the path of the outermost module around a layer that is not just a container."""
    parts = path.split(".") if path else []
    for count in range(1, len(parts) + 1):
        prefix = ".".join(parts[:count])
        if type(modules[prefix]) not in CONTAINERS:
            return prefix
    return path


def is_block(module: nn.Module) -> bool:
    """Return whether a module has children."""
    return next(module.children(), None) is not None


def follows(layer: Layer) -> bool:
    """Return whether a layer is drawn with the preceding one: norms, activations, pooling."""
    is_weightless = not layer.macs and (not layer.params or "Norm" in layer.kind)
    # functional pooling separates parts of the net, one of which may skip it
    return is_weightless and len(layer.sources) < 2 and (layer.is_module or not layer.kernel)


def stage(key: str, layers: Sequence[Layer], modules: dict[str, nn.Module]) -> dict[str, Any]:
    """Summarise the layers of a stage."""
    first = max(layers, key=lambda one: (one.macs, one.params))
    kinds = [f"{one.kind} {one.kernel}".strip() for one in layers]
    is_one_block = is_block(modules[key]) and key != ""
    names = [one.name for one in layers if one.name]
    parts = zip(*(one.split(".") for one in names), strict=False)
    common = [one[0] for one in takewhile(lambda one: len(set(one)) == 1, parts)]
    return {
        "name": key if is_one_block else ".".join(common) or first.name or first.kind,
        "kind": type(modules[key]).__name__ if is_one_block else " → ".join(dict.fromkeys(kinds)),
        "shape": list(layers[-1].shape),
        "params": sum(one.params for one in layers),
        "macs": sum(one.macs for one in layers),
        "sees": None if layers[-1].sees is None else list(layers[-1].sees),
        "sees_all": layers[-1].sees_all,
        "repeats": 1,
        "sources": set(),
    }


def fold(
    stages: list[dict[str, Any]], groups: list[list[int]]
) -> tuple[list[dict[str, Any]], dict[int, tuple[int, int]]]:
    """Merge equal consecutive stages; return them, and the stage and repeat of each layer."""
    folded: list[dict[str, Any]] = []
    stage_of: dict[int, tuple[int, int]] = {}

    def signature(pair: tuple[dict[str, Any], list[int]]) -> tuple[Any, ...]:
        one = pair[0]
        return one["kind"], one["params"], one["macs"], tuple(one["shape"])

    for _, alike in groupby(zip(stages, groups, strict=True), signature):
        members = list(alike)
        first, last = members[0][0], members[-1][0]
        name = first["name"] if len(members) == 1 else f"{first['name']} – {last['name']}"
        seen = {key: last[key] for key in ("sees", "sees_all")}
        for repeat, (_, numbers) in enumerate(members):
            stage_of |= dict.fromkeys(numbers, (len(folded), repeat))
        folded.append({**first, **seen, "name": name, "repeats": len(members)})
    return folded, stage_of
