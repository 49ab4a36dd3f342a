"""Set separate learning rates and weight decays for parts of a net."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from src.models.names import select

CONTAINERS = (nn.Sequential, nn.ModuleList)  # hold layers in order; a subclass is a layer by itself
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
CHANGES = ("lr_ratio", "weight_decay")


class ParameterGroups:
    """Group the parameters of a net by learning rate and weight decay, and build the optimizer with these groups.

    Rates are given as ratios to the optimizer's rate, and the ratios multiply; a schedule scales every group by the
    same factor.

    Args:
        decay_norms_and_biases: decay vectors and scalars as well as matrices and filters.
        layer_decay: ratio of a layer's rate to the next layer's (Clark et al. 2020, arXiv 2003.10555); the head has the
            full rate. 1: all layers have the same rate.
        head_lr_ratio: ratio for the last layer.
        norm_bias_lr_ratio: ratio for the biases of norms; airbench (Jordan 2024, arXiv 2404.00498) has 64.
        patterns: `lr_ratio` and `weight_decay` of the parameters with matching names (see `src.models.names.select`);
            if several patterns match, their ratios multiply and the last weight decay counts.

    Raises:
        ValueError: a value is out of its range, or a pattern sets something other than these.
    """

    def __init__(
        self,
        decay_norms_and_biases: bool = False,
        layer_decay: float = 1.0,
        head_lr_ratio: float = 1.0,
        norm_bias_lr_ratio: float = 1.0,
        patterns: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        if not isinstance(patterns, Mapping | None):
            raise ValueError(f"patterns={patterns} must be a mapping, such as {{head: {{lr_ratio: 10}}}}.")
        self.patterns: dict[str, Mapping[str, float]] = dict(patterns or {})
        ratios = {"head_lr_ratio": head_lr_ratio, "norm_bias_lr_ratio": norm_bias_lr_ratio}
        for pattern, changes in self.patterns.items():
            if not is_change(changes):
                raise ValueError(f"patterns.{pattern}={changes} must give numbers for {' or '.join(CHANGES)}, or both.")
            ratios[f"patterns.{pattern}.lr_ratio"] = changes.get("lr_ratio", 1.0)
            if (decay := changes.get("weight_decay", 0.0)) < 0:
                raise ValueError(f"patterns.{pattern}.weight_decay={decay} must not be negative.")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay={layer_decay} must be above 0 and at most 1 (no decay).")
        for name, ratio in ratios.items():
            if not ratio > 0:
                raise ValueError(f"{name}={ratio} must be above 0; to freeze weights, use model.freeze.")
        self.decay_norms_and_biases, self.layer_decay = decay_norms_and_biases, layer_decay
        self.head_lr_ratio, self.norm_bias_lr_ratio = head_lr_ratio, norm_bias_lr_ratio

    def build(
        self,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        net: nn.Module,
        parameters: Mapping[str, nn.Parameter],
    ) -> Optimizer:
        """Build the optimizer of a net.

        Args:
            optimizer: called with the parameter groups.
            net: the net.
            parameters: the parameters to train, by name; the net's parameters have their names within the net.

        Raises:
            ValueError: a pattern matches nothing, or the optimizer rejects one of its arguments.
        """
        # the first group has the optimizer's own rate, which is the one that is logged, even if the group is empty
        groups: dict[tuple[float, float | None], list[nn.Parameter]] = {(1.0, None): [], (1.0, 0.0): []}
        for name, options in self.options(net, parameters).items():
            groups.setdefault(options, []).append(parameters[name])
        try:
            built = optimizer(
                [
                    {"params": members} if decay is None else {"params": members, "weight_decay": decay}
                    for (_, decay), members in groups.items()
                ]
            )
        except ValueError as error:  # torch's message lacks the configuration key
            raise ValueError(f"model.optimizer: {error}; model/optimizer=adamw has values that work.") from error
        for group, (ratio, _) in zip(built.param_groups, groups, strict=True):
            if ratio != 1:  # an optimizer may have no rate
                group["lr"] *= ratio
        return built

    def options(self, net: nn.Module, parameters: Mapping[str, nn.Parameter]) -> dict[str, tuple[float, float | None]]:
        """Return the ratio of each parameter's rate to the optimizer's, and its weight decay; None: the optimizer's.

        Raises:
            ValueError: a pattern matches nothing.
        """
        depths = depths_of(net)
        head = max(depths.values(), default=0)
        norm_biases = {id(module.bias) for module in net.modules() if isinstance(module, NORMS) and has_bias(module)}
        options: dict[str, tuple[float, float | None]] = {}
        for name, parameter in parameters.items():
            ratio = self.layer_decay ** (head - depths.get(name, head))  # a loss may have parameters, too
            ratio *= self.head_lr_ratio if depths.get(name) == head else 1.0
            ratio *= self.norm_bias_lr_ratio if id(parameter) in norm_biases else 1.0
            options[name] = ratio, None if parameter.ndim >= 2 or self.decay_norms_and_biases else 0.0
        for pattern, changes in self.patterns.items():
            for name in select([pattern], parameters, "model.parameter_groups.patterns"):
                ratio, decay = options[name]
                options[name] = ratio * changes.get("lr_ratio", 1.0), changes.get("weight_decay", decay)
        return options


def is_change(changes: Any) -> bool:
    """Return whether the value of a pattern sets numbers for `CHANGES` and nothing else."""
    return (
        isinstance(changes, Mapping)
        and len(changes) > 0
        and changes.keys() <= set(CHANGES)
        and all(isinstance(value, int | float) for value in changes.values())
    )


def has_bias(module: nn.Module) -> bool:
    """Return whether a norm has a bias."""
    return getattr(module, "bias", None) is not None


def depths_of(net: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter of a net: from 0 in the first layer up to the head.

    Layers are the blocks of a net in the order of its definition. A norm belongs to the layer before it; parameters of
    the net itself, such as position embeddings, belong to the first.
    """
    depths: dict[str, int] = {}
    depth = -1
    for name, block in blocks_of(net):
        depth += depth < 0 or not isinstance(block, NORMS)
        depths |= dict.fromkeys((parameter for parameter, _ in block.named_parameters(name)), depth)
    return {name: depths.get(name, 0) for name, _ in net.named_parameters()}


def blocks_of(net: nn.Module, name: str = "", is_core: bool = True) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of a net's blocks with parameters: its children, and the children of containers.

    A module that only wraps another one is opened like a container; `is_core`: only wrappers surround this module.
    """
    children = [(child, module) for child, module in net.named_children() if has_parameters(module)]
    is_wrapper = is_core and len(children) == 1 and not any(True for _ in net.parameters(recurse=False))
    for child, module in children:
        path = f"{name}.{child}".lstrip(".")
        inner = any(map(has_parameters, module.children()))
        if type(module) in CONTAINERS or (is_wrapper and inner):
            yield from blocks_of(module, path, is_wrapper)
        else:
            yield path, module


def has_parameters(module: nn.Module) -> bool:
    """Return whether a module has any parameters."""
    return next(module.parameters(), None) is not None
