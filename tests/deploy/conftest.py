"""Fixtures shared by the tests of export: the smallest net of each family, with non-trivial norms, and data."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.data.synthetic import SyntheticDataModule
from src.models.classifier import Classifier
from src.models.task import Task
from src.run.instantiate import instantiate

FAMILIES = ("mnist_sdn_8k", "simple_mlp", "mnist_cnn_8k", "mnist_convnext_18k", "mnist_vit_38k")
FAMILIES += ("mnist_efficientnet_22k", "mnist_hybrid_210k", "mnist_resnet_64k", "mnist_regnet_210k")
FAMILIES += ("mnist_efficientnetv2_210k", "mnist_mobilevit_210k", "mnist_convnext1_210k", "cifar10_vgg_2474k")
ATTENTIVE = ("mnist_vit_38k", "mnist_hybrid_210k", "mnist_mobilevit_210k")
MULTIHEAD = "mnist_mh_cnn_422k"
AUTOENCODER = "mnist_autoencoder_5k"
BOTTLENECK = "mnist_autoencoder_58k"
# exporters need time for each layer: tests have one or two layers of a kind, `make test-slow` all of them
SHALLOW = {
    "mnist_convnext_18k": ("model.net.depths=[1,1]", "model.net.dims=[4,8]"),
    "mnist_vit_38k": ("model.net.depth=1",),
    "mnist_efficientnet_22k": ("model.net.stages=[[1,3,1,8,1],[4,5,2,16,2]]",),
    "mnist_hybrid_210k": ("model.net.depth=1",),
    "mnist_resnet_64k": ("model.net.depths=[1,1]", "model.net.dims=[8,16]"),
    "mnist_regnet_210k": ("model.net.depth=3", "model.net.initial_width=8", "model.net.width_slope=8"),
    "mnist_efficientnetv2_210k": ("model.net.fused_stages=[[1,3,1,8,1]]", "model.net.stages=[[4,3,2,16,1]]"),
    "mnist_mobilevit_210k": ("model.net.dims=[8,8,8,16,16]", "model.net.embed_dims=[8,16,16]"),
    "mnist_convnext1_210k": ("model.net.depths=[1,1]", "model.net.dims=[4,8]"),
}
WHOLE = [pytest.param(f"{name}, whole", marks=pytest.mark.slow) for name in SHALLOW]
SHALLOW["cifar10_vgg_2474k"] = ("data=mnist", "model.net.dims=[4,8]", "model.net.hidden_size=16")  # here of grey digits


def unlike_new(net: nn.Module) -> nn.Module:
    """Give norms and biases values like those of a trained net."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean = 0.3 * torch.randn(module.num_features, generator=generator)
            module.running_var = 0.5 + torch.rand(module.num_features, generator=generator)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return net.eval()


@pytest.fixture
def make_task(compose: Callable[..., Any]) -> Callable[[str], Task]:
    """Build a named model, in full if that is requested, else as shallow as possible."""

    def make_task_(name: str) -> Task:
        torch.manual_seed(0)
        overrides = SHALLOW.get(name, ())
        model: Task = instantiate(compose(f"model={name.removesuffix(', whole')}", *overrides).model)
        unlike_new(model.net)
        return model.eval()

    return make_task_


@pytest.fixture
def make_net(make_task: Callable[[str], Task]) -> Callable[[str], nn.Module]:
    """Build the net of a named model."""
    return lambda name: make_task(name).net


@pytest.fixture
def data() -> SyntheticDataModule:
    """Images (1, 28, 28) of 10 learnable classes: 640 for training, 160 for validation, 160 for testing."""
    module = SyntheticDataModule(
        num_classes=10, channels=1, image_size=28, batch_size=32, train_size=800, test_size=160, val_size=160
    )
    module.setup()
    return module


@pytest.fixture
def card(data: SyntheticDataModule) -> dict[str, Any]:
    """The card of the data."""
    return data.input_card()


@pytest.fixture
def batches(data: SyntheticDataModule) -> dict[str, Callable[[], Any]]:
    """Functions that return the batches of each split."""
    return {split: getattr(data, f"{split}_dataloader") for split in ("train", "val", "test")}


def several_heads(card: dict[str, Any], batches: Any) -> tuple[dict[str, Any], list[Any]]:
    """The card and the batches of the data, for the net with three heads."""
    heads = {"digit": 10, "thickness": 5, "smoothness": 3}
    named = {head: [str(label) for label in range(count)] for head, count in heads.items()}
    return {**card, "heads": named}, [(images, torch.stack([labels % 3] * 3, 1)) for images, labels in batches]


def task(net: nn.Module) -> Classifier:
    """A net as a task that can be trained."""
    return Classifier(
        net, partial(torch.optim.AdamW, lr=1e-3), None, nn.CrossEntropyLoss(), (1, 28, 28), score="acc", mode="max"
    )


def learn(net: nn.Module, data: SyntheticDataModule, epochs: int = 2, lr: float = 3e-3) -> Classifier:
    """Train a net for some epochs, without a Trainer."""
    model = task(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    net.train()
    for epoch in range(epochs):
        loader = data.train_dataloader()
        loader.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    net.eval()
    return model


def accuracy(net: Callable[[Tensor], Tensor], batches: Any) -> float:
    """The share of correct predictions."""
    with torch.no_grad():
        right = [(net(images).argmax(1) == labels).float().mean().item() for images, labels in batches]
    return sum(right) / len(right)


@pytest.fixture(autouse=True)
def logging_is_left_alone() -> Iterator[None]:
    """Exporters lower the root logger's level and do not restore it."""

    def levels() -> list[int]:
        return [log.level for log in (logging.getLogger(), *logging.getLogger().handlers)]

    before = levels()
    yield
    assert levels() == before
