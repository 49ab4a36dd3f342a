"""Steps of optimizers from other packages, as this project configures them, follow their papers."""

from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.run.instantiate import instantiate

Steps = Callable[..., tuple[list[Tensor], list[Tensor], float]]
pytest.importorskip("timm", reason="these optimizers come with the extra [timm]")


@pytest.fixture
def steps(compose: Callable[..., DictConfig]) -> Steps:
    """Take a step; return the parameters before it, the changes, and the learning rate."""

    def take(name: str, module: nn.Module) -> tuple[list[Tensor], list[Tensor], float]:
        torch.manual_seed(0)  # next to no weight decay: without any, LAMB is Adam
        cfg = compose(f"model/optimizer={name}", "model.optimizer.weight_decay=1e-9").model.optimizer
        before = [parameter.detach().clone() for parameter in module.parameters()]
        optimizer = instantiate(cfg)(module.parameters())
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        changes = [after.detach() - old for old, after in zip(before, module.parameters(), strict=True)]
        return before, changes, cfg.lr

    return take


@pytest.mark.parametrize("module", [nn.Linear(32, 16), nn.Conv2d(8, 16, 3)], ids=["matrix", "filters"])
def test_muon_steps_are_orthogonal(steps: Steps, module: nn.Module) -> None:
    """All singular values are about the same, of filters as a matrix (out, in · 9); those of noise are not."""
    _, (matrix, bias), lr = steps("muon", module)
    values = torch.linalg.svdvals(matrix.flatten(1))
    assert values.max() / values.min() < 2.0
    noise = torch.linalg.svdvals(torch.randn_like(matrix.flatten(1)))
    assert noise.max() / noise.min() > 2.0
    assert 0.1 * lr < matrix.square().mean().sqrt() < lr, "of the size of AdamW's steps, so that it takes its rate"
    assert bias.abs().max() > 0


def test_muon_takes_filters_as_matrices(steps: Steps) -> None:
    """The first step is against the orthogonal factor U Vᵀ of the gradient (out, in · 9), but for its scale."""
    module = nn.Conv2d(8, 16, 3)
    _, (change, _), _ = steps("muon", module)
    assert module.weight.grad is not None
    u, _, v = torch.linalg.svd(module.weight.grad.flatten(1), full_matrices=False)
    assert torch.cosine_similarity(-change.flatten(), (u @ v).flatten(), dim=0) > 0.97


def test_lion_steps_have_one_size(steps: Steps) -> None:
    """The learning rate, in every parameter."""
    _, changes, lr = steps("lion", nn.Linear(32, 16))
    for change in changes:
        torch.testing.assert_close(change.abs(), torch.full_like(change, lr))


def test_lamb_steps_are_a_fraction_of_the_weights(
    steps: Steps,
) -> None:
    """Of each matrix, by its norm."""
    before, changes, lr = steps("lamb", nn.Linear(32, 16, bias=False))
    assert changes[0].norm() == pytest.approx(float(lr * before[0].norm()), rel=1e-3)
