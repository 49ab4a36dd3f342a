"""Simulated int8 in float32: rounded values, sensitive layers, and fine-tuning."""

import torch
from torch import Tensor, nn

from src.data.synthetic import SyntheticDataModule
from src.deploy.fake_quantization import RoundedInput, RoundedWeight, by_sensitivity, fine_tune, rounded
from src.models.components.simple_mlp import SimpleMLP
from tests.deploy.conftest import accuracy, learn, task


def test_weights_have_255_levels_for_each_channel() -> None:
    weight = torch.randn(3, 4, 5, 5) * torch.tensor([1.0, 100.0, 0.01]).view(3, 1, 1, 1)
    result = RoundedWeight()(weight)
    steps = weight.abs().amax(dim=(1, 2, 3)) / 127
    levels = result / steps.view(3, 1, 1, 1)
    assert torch.allclose(levels, levels.round(), atol=1e-3) and levels.abs().max() <= 127.001
    assert ((result - weight).abs() <= steps.view(3, 1, 1, 1) / 2 * 1.001).all()
    assert torch.equal(RoundedWeight()(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_inputs_have_256_levels_between_the_extremes_seen() -> None:
    hook = RoundedInput()
    x = torch.linspace(-1, 3, 1001)
    (result,) = hook(nn.Identity(), (x,))
    assert (result - x).abs().max() <= 4 / 255 / 2 * 1.01 + 1e-6 and len(result.unique()) <= 256
    hook.observing = False
    (result,) = hook(nn.Identity(), (torch.tensor([-50.0, 50.0]),))
    assert torch.allclose(result, torch.tensor([-1.0, 3.0]), atol=0.02)
    (result,) = RoundedInput()(nn.Identity(), (torch.tensor([2.0, 3.0]),))  # zero is always among the levels
    assert torch.allclose(result, torch.tensor([2.0, 3.0]), atol=0.01)


def test_gradients_pass_the_rounding() -> None:
    weight = torch.randn(4, 6, requires_grad=True)
    RoundedWeight()(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones(4, 6))


def test_a_net_is_itself_again_afterwards() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(7, 4)
    before, weight, kind = net(x), net[0].weight, type(net[0])
    with rounded(net, ["0", "2"]):
        assert not torch.equal(net(x), before)
    assert torch.equal(net(x), before) and net[0].weight is weight and type(net[0]) is kind
    assert not net[0]._forward_pre_hooks


def test_a_module_with_two_names_is_rounded_once() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())  # shows any rounding; ReLU may not
    net.append(net[0])
    before = net(torch.ones(1, 4))
    with rounded(net, ["0", "2"]) as hooks:
        assert len(hooks) == 1 and not torch.equal(net(torch.ones(1, 4)), before)
    assert torch.equal(net(torch.ones(1, 4)), before)


def test_the_layer_that_rounding_hurts_most_comes_first() -> None:
    """A layer with one input a thousand times the others, which 256 levels round to zero."""
    net = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 3, bias=False))
    with torch.no_grad():
        net[0].weight[0] *= 1000
        net[1].weight[:, 0] /= 1000
    assert by_sensitivity(net, ["0", "1", "2"], torch.randn(64, 8))[0] == "1"


class ImageAndNumbers(nn.Module):
    """Returns outputs of different shapes; one depends on each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 1, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"image": self.fine(x), "numbers": 1000 * self.coarse(x.flatten(1))}


def test_what_rounding_changes_is_seen_in_outputs_of_any_shape() -> None:
    assert by_sensitivity(ImageAndNumbers(), ["fine", "coarse"], torch.randn(64, 1, 4, 4)) == ["coarse", "fine"]


class Shrunk(nn.Module):
    """A net whose first layer's inputs include a large constant, which leaves rounding few levels for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.body = SimpleMLP(in_channels=1, image_size=28, num_classes=10, hidden_sizes=(32,), dropout=0.0)
        self.first = nn.Linear(785, 784)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x.flatten(1), torch.full((len(x), 1), 1200.0)], dim=1)  # (B, 785)
        return self.body(self.first(x).view(-1, 1, 28, 28))


def test_training_gets_used_to_the_rounding(data: SyntheticDataModule) -> None:
    torch.manual_seed(0)
    net = Shrunk()
    with torch.no_grad():
        net.first.weight.copy_(torch.eye(784, 785))
        net.first.bias.zero_()
    model = learn(net, data, epochs=3, lr=1e-3)
    names = ["first", *(f"body.{key}" for key, module in net.body.named_modules() if isinstance(module, nn.Linear))]
    before = accuracy(net, data.val_dataloader())
    with rounded(net, names):
        accuracy(net, data.train_dataloader())  # to see the ranges
        lost = accuracy(net, data.val_dataloader())
    weights = net.first.weight.clone()
    fine_tune(model, net, names, data.train_dataloader, epochs=3, lr=1e-3)
    assert not net.training and not torch.equal(net.first.weight, weights)
    with rounded(net, names):
        accuracy(net, data.train_dataloader())
        regained = accuracy(net, data.val_dataloader())
    assert before > 0.9 and lost < before - 0.05 and regained > (before + lost) / 2, (before, lost, regained)


def test_fine_tuning_leaves_the_task_and_its_own_net_alone(data: SyntheticDataModule) -> None:
    own, copied = (SimpleMLP(in_channels=1, image_size=28, num_classes=10, hidden_sizes=(8,)) for _ in range(2))
    model = task(own)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fine_tune(model, copied, ["head"], data.train_dataloader, epochs=1, lr=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.net is own and model.train_metrics.compute() is not None
