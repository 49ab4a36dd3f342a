"""The memory of activations, compared to counts by hand, in bytes."""

import torch
from torch import nn

from src.cards.memory import activations

FLOAT = 4


def test_a_stack_holds_an_input_and_an_output_and_keeps_what_backward_needs() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    image, wide = 3 * 100 * FLOAT, 8 * 100 * FLOAT
    for batch in (1, 2, 7):
        found = activations(net, (3, 10, 10), batch)
        assert found.peak == batch * (image + 2 * wide)  # the caller's input, the convolution's output and the ReLU's
        assert found.kept == batch * (image + wide)  # the inputs of both convolutions; the ReLU's output is the second
        assert found.kept_at == {("0", 0, 0): batch * image, ("1", 0, 0): batch * wide}


def test_in_place_operations_and_views_take_nothing_and_weights_do_not_count() -> None:
    net = nn.Sequential(nn.Linear(6, 1000), nn.ReLU(inplace=True), nn.Unflatten(1, (10, 100)))
    found = activations(nn.Sequential(nn.Flatten(), *net), (2, 3), 4)
    assert found.peak == 4 * (6 + 1000) * FLOAT
    assert found.peak_at[("2", 0, 0)] == found.peak
    assert found.kept == 4 * (6 + 1000) * FLOAT


def test_a_skip_stays_alive_until_it_is_added() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv1d(1, 1, 1), nn.Conv1d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return x + self.second(y)

    size = 3 * 5 * FLOAT
    found = activations(nn.Sequential(Transposed(), Skip()), (5, 1), 3)
    assert found.peak == 4 * size  # the input, both convolutions' outputs, and the sum


class Transposed(nn.Module):
    """Turn series (B, T, F) into (B, F, T)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


def test_statistics_and_the_random_state_stay_as_they_were() -> None:
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5)).eval()
    before, state = net[0].running_mean.clone(), torch.get_rng_state()  # type: ignore[union-attr,operator]
    activations(net, (2, 4, 4), 3)
    assert torch.equal(net[0].running_mean, before) and net[0].num_batches_tracked == 0  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state) and not net.training
    assert all(one.grad is None for one in net.parameters())
