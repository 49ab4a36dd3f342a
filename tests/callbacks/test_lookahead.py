"""Lookahead's weights follow its formula, and the slow weights are validated."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from src.callbacks.lookahead import Lookahead

Trainer = Callable[..., L.Trainer]


class Weights(L.Callback):
    """Keeps the weights that are validated."""

    def __init__(self) -> None:
        self.validated: list[Tensor] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validated.append(flat(pl_module))


def flat(module: nn.Module) -> Tensor:
    """All parameters of a module in one vector."""
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_it_follows_its_formula(trainer: Trainer, model: L.LightningModule, data: Any) -> None:
    """With plain gradient descent, whose steps can be made again: 3 epochs of 4 steps, back every 3 steps."""
    torch.manual_seed(0)
    model._optimizer = lambda groups: torch.optim.SGD(groups, lr=0.1)  # type: ignore[assignment]
    steps: list[Tensor] = []

    class Steps(L.Callback):
        def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            gradient = torch.cat([one.grad.flatten() for one in pl_module.parameters()])  # type: ignore[union-attr]
            steps.append(-0.1 * gradient)

    slow = fast = flat(model)
    weights = Weights()
    trainer(Lookahead(alpha=0.3, every_n_steps=3), Steps(), weights, max_epochs=3, num_sanity_val_steps=0).fit(
        model, data
    )
    validated = []
    for number, step in enumerate(steps, start=1):
        fast = fast + step
        if number % 3 == 0 or number % 4 == 0:
            slow = fast = slow + 0.3 * (fast - slow)
        if number % 4 == 0:
            validated.append(slow)
    assert len(validated) == 3
    for expected, found in zip(validated, weights.validated, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(flat(model), slow, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "named"), [({"alpha": 1.0}, "alpha=1.0"), ({"alpha": 0}, "alpha=0"), ({"every_n_steps": 1}, "=1")]
)
def test_values_out_of_range_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Lookahead(**options)


def test_slow_weights_of_another_net_are_refused(trainer: Trainer, model: L.LightningModule) -> None:
    callback = Lookahead()
    callback.load_state_dict({"slow": {name: torch.zeros(1) for name, _ in model.named_parameters()}})
    with pytest.raises(ValueError, match=r"slow weights do not match this run: net\.\S+ has the shape \(1,\)"):
        callback.on_train_start(trainer(), model)


def test_optimizers_that_average_the_weights_themselves_are_refused() -> None:
    class Averages:
        def train(self) -> None: ...
        def eval(self) -> None: ...

    with pytest.raises(ValueError, match=r"averages the weights itself: leave out callbacks\.lookahead"):
        Lookahead().on_fit_start(SimpleNamespace(optimizers=[Averages()]), None)  # type: ignore[arg-type]
