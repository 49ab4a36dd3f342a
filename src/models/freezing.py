"""Freeze parts of a net, permanently or up to an epoch, to fine-tune pretrained weights."""

from collections.abc import Mapping, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from src.models.names import select


class Freezing:
    """Freeze parts of a net, and unfreeze them at a given epoch (Howard & Ruder 2018, arXiv 1801.06146).

    Frozen weights need no gradients, so the backward pass stops where all earlier layers are frozen. Frozen norms use
    and keep their running statistics. Nothing is saved: what is frozen follows from the epoch.

    Lightning's BaseFinetuning is not used. It adds unfrozen parameters to the optimizer as new groups, for which the
    schedule of a running training has no rate, and its frozen norms use batch statistics in training but running
    statistics in evaluation. Here all groups exist from the start; an optimizer skips parameters without gradients.

    Args:
        freeze: names of tensors or modules to freeze, or patterns (see `src.models.names.select`).
        unfreeze: the epoch, counted from 1, from which the matches of a pattern are trained, by pattern; of several
            epochs for a tensor, the earliest counts.

    Raises:
        ValueError: an epoch is below 2, or `unfreeze` is given without `freeze`.
    """

    def __init__(self, freeze: Sequence[str] = (), unfreeze: Mapping[str, int] | None = None) -> None:
        if not isinstance(unfreeze, Mapping | None):
            raise ValueError(f"unfreeze={unfreeze} must be a mapping of names to epochs, such as {{features: 5}}.")
        self.freeze, self.unfreeze = list(freeze), dict(unfreeze or {})
        if self.unfreeze and not self.freeze:
            raise ValueError(f"unfreeze={self.unfreeze}: nothing is frozen; name it in model.freeze.")
        for pattern, epoch in self.unfreeze.items():
            if type(epoch) is not int or epoch < 2:
                raise ValueError(
                    f"unfreeze.{pattern}={epoch} must be an epoch above 1: parts that epoch 1 trains are not frozen."
                )
        self.names: dict[str, int | None] = {}  # frozen tensors, and the first epoch that trains them

    def start(self, net: nn.Module) -> None:
        """Freeze the parameters, before an optimizer is built; those that the net itself freezes stay frozen.

        Raises:
            ValueError: a pattern matches nothing, or nothing is left to train.
        """
        if not self.freeze:
            return
        fixed = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
        frozen = [name for name in select(self.freeze, net.state_dict(), "model.freeze") if name not in fixed]
        self.names = dict.fromkeys(frozen)
        for pattern, epoch in self.unfreeze.items():
            for name in select([pattern], frozen, "model.unfreeze"):
                self.names[name] = min(epoch, self.names[name] or epoch)
        self._set_gradients(net, 1)
        if not any(parameter.requires_grad for parameter in net.parameters()):
            raise ValueError(f"model.freeze={self.freeze} leaves nothing to train: [*,-head] freezes all but the head.")

    def begin_epoch(self, net: nn.Module, epoch: int) -> None:
        """Freeze the parts that are frozen in a training epoch, counted from 1."""
        self._set_gradients(net, epoch)
        for name, module in net.named_modules():
            statistics = f"{name}.running_mean".lstrip(".")
            if isinstance(module, _NormBase) and statistics in self.names:
                module.train(not self._is_frozen(statistics, epoch))

    def end(self, net: nn.Module) -> None:
        """Unfreeze everything after training, so that all parameters are counted and exported."""
        for name, parameter in net.named_parameters():
            if name in self.names:
                parameter.requires_grad_()

    def _set_gradients(self, net: nn.Module, epoch: int) -> None:
        for name, parameter in net.named_parameters():
            if name in self.names:
                parameter.requires_grad_(not self._is_frozen(name, epoch))

    def _is_frozen(self, name: str, epoch: int) -> bool:
        first = self.names[name]
        return first is None or epoch < first
