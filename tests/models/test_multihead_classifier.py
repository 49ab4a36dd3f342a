"""Several heads on one net: metrics of each and of all, for every family."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.models.components.layers import make_head
from src.models.components.simple_cnn import SimpleCNN
from src.models.components.simple_mlp import SimpleMLP
from src.models.multihead_classifier import MultiheadClassifier
from src.run.instantiate import instantiate
from src.train import train
from tests.conftest import TINY_RUN

FAMILIES = ["simple_mlp", "mnist_sdn_8k", "mnist_cnn_8k", "mnist_vit_38k", "mnist_convnext_18k"]
FAMILIES += ["mnist_efficientnet_22k", "mnist_hybrid_210k"]


def test_each_head_and_their_mean_are_logged(compose: Callable[..., DictConfig]) -> None:
    tensors, _ = train(compose("experiment=multihead_cnn_mnist", *TINY_RUN))
    figures = {name: value.item() for name, value in tensors.items()}
    for stage in ("train", "val", "test"):
        heads = [figures[f"{stage}/{head}/acc"] for head in ("digit", "thickness", "smoothness")]
        assert figures[f"{stage}/acc"] == pytest.approx(sum(heads) / 3)
        losses = [figures[f"{stage}/{head}/loss"] for head in ("digit", "thickness", "smoothness")]
        assert figures[f"{stage}/loss"] == pytest.approx(losses[0] + 0.5 * losses[1] + 0.5 * losses[2], rel=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_any_net_takes_several_heads(name: str, compose: Callable[..., DictConfig]) -> None:
    cfg = compose(f"model={name}", "data=mnist_multihead")
    outputs = instantiate(cfg.model.net)(torch.randn(4, 1, 28, 28))
    assert {head: tuple(logits.shape) for head, logits in outputs.items()} == {
        "digit": (4, 10),
        "thickness": (4, 5),
        "smoothness": (4, 3),
    }


def test_heads_without_a_weight_are_named(compose: Callable[..., DictConfig]) -> None:
    with pytest.raises(Exception, match="thickness"):
        instantiate(compose("model=mnist_mh_cnn_422k", "data=mnist_multihead", "~model.loss_weights.thickness").model)


class TwoHeads(nn.Module):
    """A user's net, which names its outputs and has no `head`."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        shape, size = self.linear(images.flatten(1)).split([3, 2], dim=1)
        return {"shape": shape, "size": size}


def task(net: nn.Module, **loss_weights: float) -> MultiheadClassifier:
    adamw, criterion = partial(torch.optim.AdamW, lr=0.01), nn.CrossEntropyLoss()
    options = {"score": "acc", "mode": "max"}
    return MultiheadClassifier(net, adamw, None, criterion, (1, 4, 4), loss_weights=loss_weights, **options)


def test_the_heads_of_a_net_are_the_outputs_that_it_names() -> None:
    model = task(TwoHeads(), shape=1.0, size=0.5)
    loss, outputs = model.step(model.example_batch(4), model.train_metrics)
    assert list(outputs) == ["shape", "size"] and loss.isfinite()
    with pytest.raises(ValueError, match=r"the heads \['shape'\], but the net's are \['shape', 'size'\]"):
        task(TwoHeads(), shape=1.0)
    one_label = SimpleMLP(in_channels=1, image_size=4, num_classes=3, hidden_sizes=[4])
    with pytest.raises(ValueError, match="the heads shape, size, but the net has one output without a name"):
        task(one_label, shape=1.0, size=0.5)


@pytest.mark.parametrize("num_classes", [0, {}, {"digit": 10, "thickness": 0}])
def test_a_head_without_classes_is_refused(num_classes: object) -> None:
    with pytest.raises(ValueError, match="num_classes"):
        make_head(8, num_classes)  # type: ignore[arg-type]


def test_scalars_beside_the_image_reach_the_output_and_change_nothing_where_there_are_none() -> None:
    plain = SimpleCNN(in_channels=1, image_size=28, num_classes=10)
    assert plain.auxiliary is None
    net = SimpleCNN(in_channels=1, image_size=28, num_classes=10, auxiliary_input_size=3).eval()
    images, scalars = torch.randn(2, 1, 28, 28), torch.randn(2, 3, requires_grad=True)
    net(images, scalars).sum().backward()
    assert scalars.grad is not None and scalars.grad.abs().min() > 0
    for arguments in ((net, images), (plain, images, scalars)):
        with pytest.raises(ValueError, match="auxiliary_input_size"):
            arguments[0](*arguments[1:])
