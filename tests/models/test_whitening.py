"""The whitening layer: its outputs for patches, when it is initialised, and what does not change it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from src.models.classifier import Classifier
from src.models.components.airbench import AirbenchNet
from src.models.components.resnet import ResNet
from src.models.components.simple_cnn import SimpleCNN
from src.models.components.whitening import Whitening, patch_covariance, start_as_identity

EPS = 5e-4


def smooth_images(count: int = 40, channels: int = 1, size: int = 12, seed: int = 0) -> Tensor:
    """Make images (N, C, H, W) with similar neighbouring pixels and channels, as in photographs."""
    noise = torch.randn(count, channels, size + 2, size + 2, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool2d(noise, 3, stride=1) + 0.3
    return smooth + smooth.mean(dim=1, keepdim=True)


def whitened(layer: Whitening, images: Tensor) -> Tensor:
    """Return a layer's outputs for the patches within the images, (patches, 2 · D)."""
    before, after = (layer.kernel_size - 1) // 2, layer.kernel_size // 2
    with torch.no_grad():
        maps = layer(images)[:, :, before : images.shape[2] - after, before : images.shape[3] - after]
    return maps.transpose(0, 1).flatten(1).T


@pytest.mark.parametrize(("channels", "kernel_size"), [(1, 2), (1, 3), (3, 2), (3, 3)])
def test_training_patches_become_uncorrelated_with_a_variance_of_1(channels: int, kernel_size: int) -> None:
    images = smooth_images(channels=channels)
    layer = Whitening(channels, kernel_size, eps=EPS)
    layer.initialize_from(images)
    outputs = whitened(layer, images)
    size = channels * kernel_size**2
    assert outputs.shape[1] == layer.out_channels == 2 * size
    torch.testing.assert_close(outputs[:, size:], -outputs[:, :size])
    variances = torch.linalg.eigvalsh(torch.cov(patches_by_hand(images, kernel_size).T)).flip(0)  # (size,)
    expected = torch.diag(variances / (variances + EPS))
    torch.testing.assert_close(torch.cov(outputs[:, :size].T).double(), expected, atol=1e-2, rtol=0)


def patches_by_hand(images: Tensor, size: int) -> Tensor:
    """Every patch within the images, (patches, C · size²), in float64."""
    _, _, height, width = images.shape
    corners = [(row, column) for row in range(height - size + 1) for column in range(width - size + 1)]
    return torch.cat([images[:, :, row : row + size, col : col + size].flatten(1) for row, col in corners]).double()


def test_the_covariance_is_that_of_all_patches_however_many_images_there_are() -> None:
    images = smooth_images(count=37, channels=3, size=7)
    covariance = torch.cov(patches_by_hand(images, 2).T, correction=0)
    torch.testing.assert_close(patch_covariance(images, 2), covariance)


def test_a_filter_is_an_eigenvector_over_the_root_of_its_variance() -> None:
    """Two pixels with the covariance [[2, 1], [1, 2]]: (1, 1) / √2 of variance 3, and (1, -1) / √2 of variance 1."""
    pairs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # white
    images = (pairs @ torch.linalg.cholesky(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).T).view(4, 2, 1, 1)
    layer = Whitening(2, kernel_size=1, eps=1.0)
    layer.initialize_from(images)
    expected = torch.tensor([[1 / 8**0.5, 1 / 8**0.5], [0.5, 0.5]])  # over √(3 + 1), over √(1 + 1)
    torch.testing.assert_close(layer.weight.view(4, 2)[:2].abs(), expected)
    assert layer.weight[0].view(2).prod() > 0 > layer.weight[1].view(2).prod()


def test_directions_without_variance_are_left_out_rather_than_amplified() -> None:
    layer = Whitening(3, kernel_size=2)
    layer.initialize_from(smooth_images().expand(-1, 3, -1, -1))  # grey, as RGB
    used = layer.weight.flatten(1).any(dim=1)
    assert used.tolist() == ([True] * 4 + [False] * 8) * 2
    assert layer.weight.isfinite().all()


def test_it_starts_as_the_whitening_of_white_noise_and_keeps_the_size() -> None:
    for size in (1, 2, 3, 4):
        layer = Whitening(1, kernel_size=size, eps=EPS)
        images = torch.randn(3, 1, 9, 11)
        assert layer(images).shape == (3, 2 * size**2, 9, 11)
        assert sorted(layer.weight.abs().flatten(1).sum(1).tolist()) == pytest.approx([1.0] * 2 * size**2, abs=EPS)
        assert not layer.is_initialized()


@pytest.mark.parametrize("images", [torch.zeros(4, 3, 8, 8), torch.zeros(4, 8)], ids=["RGB", "vectors"])
def test_images_of_another_kind_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"takes images \(batch, 1, height, width\), not \(4, "):
        Whitening(1).initialize_from(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kernel_size": 0}, "kernel_size=0 "), ({"stride": 0}, "stride=0 "), ({"eps": 0}, "eps=0 ")],
)
def test_a_value_out_of_its_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Whitening(1, **options)


# ---- partial identities


def test_convolutions_after_the_first_layer_pass_their_input_through_in_their_first_channels() -> None:
    torch.manual_seed(0)
    wide, narrow, first = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(1, 4, 3)
    others = [first, nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4)]
    before = [layer.weight.clone() for layer in (*others, wide)]
    start_as_identity(nn.Sequential(first, wide, narrow, *others[1:]))
    for layer, channels in ((wide, 4), (narrow, 4)):
        nn.init.zeros_(layer.bias)
        images = torch.randn(2, layer.in_channels, 5, 5)
        torch.testing.assert_close(layer(images)[:, :channels], images[:, :channels])
    assert torch.equal(wide.weight[4:], before[-1][4:])  # as they were drawn
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(others, before, strict=False))


def test_whitening_counts_as_the_first_layer() -> None:
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    start_as_identity(nn.Sequential(Whitening(1, 2), conv))
    images = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(conv(images), images)


# ---- as an option of nets


SMALL_CNN = partial(SimpleCNN, conv1_channels=8, conv2_channels=8, pool_size=2, hidden_size=8)
SMALL_RESNET = partial(ResNet, depths=(1, 1), dims=(8, 8))
SMALL_AIRBENCH = partial(AirbenchNet, dims=(8, 8))
FACTS = {"in_channels": 1, "image_size": 12, "num_classes": 3}
KINDS = {"CNN": SMALL_CNN, "ResNet": SMALL_RESNET, "airbench": SMALL_AIRBENCH}
every_net = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


class Data(L.LightningDataModule):
    """Smooth images of three classes, in batches of 20."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.images = smooth_images(seed=seed)

    def train_dataloader(self) -> "DataLoader[Any]":
        return DataLoader(TensorDataset(self.images, torch.arange(len(self.images)) % 3), batch_size=20, shuffle=False)


def task(net: nn.Module) -> Classifier:
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.5)
    return Classifier(net, optimizer, None, nn.CrossEntropyLoss(), (1, 12, 12), score="acc", mode="max")


def fit(model: Classifier, *data: Any, **options: Any) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet)
    trainer.fit(model, *data, **options)


def whitening_of(model: nn.Module) -> Whitening:
    (layer,) = [module for module in model.modules() if isinstance(module, Whitening)]
    return layer


@every_net
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_the_filters_come_from_the_first_training_batch_and_stay(make: Callable[..., Any], kernel_size: int) -> None:
    data, expected = Data(), Whitening(1, kernel_size)
    expected.initialize_from(data.images[:20])
    model = task(make(**FACTS, whitening={"kernel_size": kernel_size}))
    fit(model, datamodule=data)
    layer = whitening_of(model)
    torch.testing.assert_close(layer.weight, expected.weight, rtol=0, atol=0)
    assert layer.bias.any()  # trained
    assert sum(one.numel() for one in layer.parameters()) == layer.out_channels  # those of the bias alone


@pytest.mark.parametrize("make", [SMALL_CNN, SMALL_RESNET])
def test_without_the_option_a_net_has_no_such_layer(make: Callable[..., Any]) -> None:
    assert not [module for module in make(**FACTS).modules() if isinstance(module, Whitening)]


def test_filters_that_come_with_weights_are_not_replaced() -> None:
    first, second = (task(SMALL_CNN(**FACTS, whitening={"kernel_size": 3})) for _ in range(2))
    fit(first, datamodule=Data())
    second.load_state_dict(first.state_dict())
    fit(second, datamodule=Data(seed=1))
    torch.testing.assert_close(whitening_of(second).weight, whitening_of(first).weight, rtol=0, atol=0)


def test_it_draws_nothing_from_the_run_s_generator() -> None:
    states = []
    for whitening in (None, {"kernel_size": 3}):
        model = task(SMALL_CNN(**FACTS, whitening=whitening))
        torch.manual_seed(0)
        trainer = L.Trainer(accelerator="cpu", logger=False)
        trainer.strategy.connect(model)
        trainer.datamodule = Data()  # type: ignore[attr-defined]
        model.trainer = trainer
        model.setup("fit")
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_loaders_without_a_datamodule_are_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="Whitening is initialised from the data: give the trainer a datamodule"):
        fit(task(SMALL_CNN(**FACTS, whitening={"kernel_size": 3})), Data().train_dataloader())


def test_a_stride_of_2_halves_the_image_and_loses_nothing_of_it() -> None:
    images = smooth_images(count=8, size=10)
    layer = Whitening(1, kernel_size=4, stride=2, bias=False)
    layer.initialize_from(images)
    outputs = layer(images)
    assert outputs.shape == (8, 32, 5, 5)
    dense = Whitening(1, kernel_size=4, bias=False)
    dense.load_state_dict(layer.state_dict())
    torch.testing.assert_close(outputs, dense(images)[:, :, ::2, ::2])
    # half of the outputs and the filters' inverse give each patch
    patches = F.unfold(F.pad(images, (1, 2, 1, 2)), 4, stride=2)  # (8, 16, 25)
    recovered = torch.linalg.solve(layer.weight[:16].flatten(1), outputs[:, :16].flatten(2))
    torch.testing.assert_close(recovered, patches, atol=1e-3, rtol=1e-3)


def test_without_a_bias_nothing_before_the_first_convolution_needs_a_gradient() -> None:
    net = SMALL_AIRBENCH(**FACTS, whitening={"bias": False})
    assert not [name for name, _ in net.named_parameters() if name.startswith("whitening")]
    assert not net.whitening(torch.randn(2, 1, 12, 12)).requires_grad
    assert SMALL_AIRBENCH(**FACTS).whitening(torch.randn(2, 1, 12, 12)).requires_grad
