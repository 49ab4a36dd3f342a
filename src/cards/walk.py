"""Track the place of a forward pass: the module, and the part of its own code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass
class Frame:
    """A call of a module, with the number of calls of its children so far."""

    path: str
    call: int
    children: int = 0


Place = tuple[str, int, int]  # path of a module, number of the call, and number of calls of its children so far
ELSEWHERE: Place = ("", -1, 0)


class Walk:
    """Track the calls of a net's modules, as a context manager.

    Args:
        net: the net.
        entered: called with the place, before a module's forward pass.
        left: called with the place where the module was entered, the module and its output.
        moved: called before each change of the place.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        entered: Callable[[Place, nn.Module], None] | None = None,
        left: Callable[[Place, nn.Module, Any], None] | None = None,
        moved: Callable[[], None] | None = None,
    ) -> None:
        self.net, self._entered, self._left, self._moved = net, entered, left, moved
        self._stack: list[Frame] = []
        self._calls: dict[str, int] = {}
        self._hooks: list[Any] = []

    @property
    def place(self) -> Place:
        """Return the current place."""
        if not self._stack:
            return ELSEWHERE
        frame = self._stack[-1]
        return frame.path, frame.call, frame.children

    def __enter__(self) -> "Walk":
        for path, module in self.net.named_modules():  # a module with several names appears under its first
            self._hooks.append(module.register_forward_pre_hook(self._before(path), prepend=True))
            self._hooks.append(module.register_forward_hook(self._after))
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _before(self, path: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, arguments: Any) -> None:
            if self._moved:
                self._moved()
            if not self._stack:
                self._calls.clear()  # a new pass
            call = self._calls[path] = self._calls.get(path, -1) + 1
            self._stack.append(Frame(path, call))
            if self._entered:
                self._entered(self.place, module)

        return enter

    def _after(self, module: nn.Module, arguments: Any, output: Any) -> None:
        if self._moved:
            self._moved()
        frame = self._stack.pop()
        if self._stack:
            self._stack[-1].children += 1
        if self._left:
            self._left((frame.path, frame.call, 0), module, output)


def is_leaf(module: nn.Module) -> bool:
    """Return whether a module has no children."""
    return next(module.children(), None) is None


@contextmanager
def evaluating(net: nn.Module, training: bool = False) -> Iterator[None]:
    """Put a net into evaluation or training mode within the context."""
    modes = {module: module.training for module in net.modules()}
    net.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
