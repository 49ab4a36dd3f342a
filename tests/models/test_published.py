"""Our nets compute what the published implementations compute, given the same weights."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from src.models.components.convnext import ConvNeXt
from src.models.components.convnext_v2 import ConvNeXtV2, GlobalResponseNorm
from src.models.components.efficientnet import EfficientNet, InvertedResidual
from src.models.components.efficientnet_v2 import EfficientNetV2
from src.models.components.layers import Attention
from src.models.components.mobilevit import MobileViT
from src.models.components.regnet import RegNet
from src.models.components.resnet import ResNet
from src.models.components.vgg import VGG
from src.models.components.vision_transformer import VisionTransformer
from src.models.published import load_published
from src.run.instantiate import instantiate

IMAGENET = {"in_channels": 3, "image_size": 224, "num_classes": 1000}
BOTTLENECKS = {"block": "bottleneck", "depths": (3, 4, 6, 3)}
Y_200MF = {"depth": 13, "initial_width": 24, "width_slope": 36.44, "width_mult": 2.49, "group_width": 8}
Y_800MF = {"depth": 14, "initial_width": 56, "width_slope": 38.84, "width_mult": 2.4, "group_width": 16}
X_400MF = {"depth": 22, "initial_width": 24, "width_slope": 24.48, "width_mult": 2.54, "group_width": 16, "se_ratio": 0}
X_800MF = {"depth": 16, "initial_width": 56, "width_slope": 35.73, "width_mult": 2.28, "group_width": 16, "se_ratio": 0}
MOBILEVIT_XS = {"dims": (32, 48, 64, 80, 96), "embed_dims": (96, 120, 144), "expansion": 4, "head_channels": 384}
MOBILEVIT_S = {"dims": (32, 64, 96, 128, 160), "embed_dims": (144, 192, 240), "expansion": 4, "head_channels": 640}
RESNET_20 = {"depths": (3, 3, 3), "dims": (16, 32, 64), "shortcut": "padding"}

# sizes that the papers' authors, torchvision or timm state
PUBLISHED_COUNTS = {
    "resnet18": (ResNet, {}, 11_689_512),
    "resnet34": (ResNet, {"depths": (3, 4, 6, 3)}, 21_797_672),
    "resnet50": (ResNet, BOTTLENECKS, 25_557_032),
    "resnet20": (ResNet, {**RESNET_20, "image_size": 32, "num_classes": 10}, 269_722),
    "regnet_y_200mf": (RegNet, Y_200MF, 3_162_996),
    "regnet_y_400mf": (RegNet, {}, 4_344_144),
    "regnet_y_800mf": (RegNet, Y_800MF, 6_432_512),
    "regnet_x_200mf": (RegNet, {**Y_200MF, "se_ratio": 0}, 2_684_792),
    "regnet_x_400mf": (RegNet, X_400MF, 5_495_976),
    "regnet_x_800mf": (RegNet, X_800MF, 7_259_656),
    "efficientnet_v2_s": (EfficientNetV2, {}, 21_458_488),
    "mobilevit_xxs": (MobileViT, {}, 1_272_024),
    "mobilevit_xs": (MobileViT, MOBILEVIT_XS, 2_317_848),
    "mobilevit_s": (MobileViT, MOBILEVIT_S, 5_578_632),
    "convnext_tiny": (ConvNeXt, {}, 28_589_128),
    "plain cnn": (VGG, {"image_size": 32, "num_classes": 10}, 2_474_058),
}


def copy_all(source: nn.Module, target: nn.Module) -> None:
    """Load the weights of a published net into ours, down to the last tensor."""
    assert load_published(target, source.state_dict()) == ([], [])


def randomize(net: nn.Module) -> nn.Module:
    """Give every parameter a random value, including those that start at zero or one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


@torch.no_grad()
def test_vision_transformer_agrees_with_timm() -> None:
    timm = pytest.importorskip("timm", reason="the comparison needs the extra [timm]")
    sizes = {"img_size": 32, "patch_size": 4, "in_chans": 3, "num_classes": 10, "embed_dim": 48, "depth": 3}
    pooling = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    published = timm.models.vision_transformer.VisionTransformer(**sizes, **pooling, num_heads=4, mlp_ratio=3)
    ours = VisionTransformer(
        in_channels=3, image_size=32, num_classes=10, embed_dim=48, depth=3, num_heads=4, mlp_ratio=3
    )
    copy_all(randomize(published), ours)
    images = torch.randn(4, 3, 32, 32)
    difference = (ours.eval()(images) - published(images)).abs().max()
    assert difference <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("size", [32, 64])
def test_convnext_v2_agrees_with_timm(size: int) -> None:
    timm = pytest.importorskip("timm", reason="the comparison needs the extra [timm]")
    depths, dims = (1, 2, 3, 1), (16, 24, 32, 40)
    published = timm.models.convnext.ConvNeXt(
        in_chans=3, num_classes=10, depths=depths, dims=dims, use_grn=True, ls_init_value=None
    )
    if size < 64:  # our stem for small images, the one difference
        published.stem[0] = nn.Conv2d(3, dims[0], kernel_size=2, stride=2)
    randomize(published)
    ours = ConvNeXtV2(in_channels=3, image_size=size, num_classes=10, depths=depths, dims=dims)
    copy_all(published, ours)
    images = torch.randn(4, 3, size, size)
    difference = (ours.eval()(images) - published(images)).abs().max()
    assert difference <= 1e-5


@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_a_net_of_published_sizes_has_the_published_number_of_parameters(name: str) -> None:
    net_class, sizes, count = PUBLISHED_COUNTS[name]
    with torch.device("meta"):
        net = net_class(**{**IMAGENET, **sizes})
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def check_agreement(ours: nn.Module, published: nn.Module, size: int) -> None:
    """Check that two nets with the same weights compute the same; 64 px are enough for all layers."""
    randomize(published)
    copy_all(published, ours)
    for net in (ours, published):
        for module in net.modules():  # statistics that a net would have after some training
            if isinstance(module, nn.BatchNorm2d):
                torch.manual_seed(module.num_features)
                module.running_var.uniform_(0.5, 2)
                module.running_mean.normal_(std=0.1)
    images = torch.randn(2, 3, size, size)
    expected = published.eval()(images)
    assert (ours.eval()(images) - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("resnet18", {}), ("resnet34", {"depths": (3, 4, 6, 3)}), ("resnet50", BOTTLENECKS)],
)
def test_resnet_is_torchvisions(name: str, sizes: dict[str, object]) -> None:
    published = getattr(torchvision.models, name)(weights=None)
    check_agreement(ResNet(**IMAGENET, **sizes), published, size=64)


@torch.no_grad()
def test_resnet_with_padding_shortcuts_is_the_papers_form_for_cifar() -> None:
    """Strided pixels and zero channels, as section 4.2 of the paper describes option A."""
    net = ResNet(in_channels=3, image_size=32, num_classes=10, **RESNET_20)
    randomize(net)
    x = torch.randn(2, 3, 32, 32)
    features = net.stem(x)
    for number, block in enumerate(net.blocks):
        shortcut = features
        if number in (3, 6):
            shortcut = features[:, :, ::2, ::2]
            shortcut = torch.cat((shortcut, torch.zeros_like(shortcut)), dim=1)
        features = torch.relu(block.layers(features) + shortcut)
    torch.testing.assert_close(net(x), net.head(features.mean(dim=(2, 3))))
    assert net(x).shape == (2, 10) and features.shape == (2, 64, 8, 8)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "sizes"), [("regnet_y_400mf", {}), ("regnet_y_800mf", Y_800MF), ("regnet_x_400mf", X_400MF)]
)
def test_regnet_is_torchvisions(name: str, sizes: dict[str, object]) -> None:
    published = getattr(torchvision.models, name)(weights=None)
    check_agreement(RegNet(**IMAGENET, **sizes), published, size=64)


@torch.no_grad()
def test_efficientnet_v2_s_is_torchvisions() -> None:
    check_agreement(EfficientNetV2(**IMAGENET), torchvision.models.efficientnet_v2_s(weights=None), size=64)


@torch.no_grad()
@pytest.mark.parametrize(("name", "sizes"), [("mobilevit_xxs", {}), ("mobilevit_xs", MOBILEVIT_XS)])
@pytest.mark.parametrize("size", [64, 96])
def test_mobilevit_agrees_with_timm(name: str, sizes: dict[str, object], size: int) -> None:
    timm = pytest.importorskip("timm", reason="the comparison needs the extra [timm]")
    check_agreement(MobileViT(**IMAGENET, **sizes), timm.create_model(name), size)


@torch.no_grad()
def test_convnext_tiny_agrees_with_timm() -> None:
    timm = pytest.importorskip("timm", reason="the comparison needs the extra [timm]")
    check_agreement(ConvNeXt(**IMAGENET), timm.create_model("convnext_tiny"), size=64)


@torch.no_grad()
def test_convnext_tiny_is_torchvisions_whose_layer_scales_have_three_dimensions() -> None:
    check_agreement(ConvNeXt(**IMAGENET), torchvision.models.convnext_tiny(weights=None), size=64)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_agrees_with_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="the comparison needs the extra [timm]")
    sizes = BOTTLENECKS if name == "resnet50" else {}
    check_agreement(ResNet(**IMAGENET, **sizes), timm.create_model(name), size=64)


@torch.no_grad()
@pytest.mark.parametrize(("stride", "expansion"), [(1, 1), (1, 6), (2, 4)])
def test_efficientnets_block_agrees_with_torchvision(stride: int, expansion: int) -> None:
    from torchvision.models.efficientnet import MBConv, MBConvConfig

    out_channels = 16 if stride == 1 else 24
    published = MBConv(MBConvConfig(expansion, 5, stride, 16, out_channels, 1), 0.0, nn.BatchNorm2d)
    ours = InvertedResidual(16, out_channels, expansion, 5, stride, drop_path_rate=0.0)
    randomize(published)
    copy_all(published, ours)
    images = torch.randn(2, 16, 14, 14)
    assert (ours.eval()(images) - published(images)).abs().max() <= 1e-5


@torch.no_grad()
def test_efficientnet_b0_at_224_px_is_torchvisions() -> None:
    from torchvision.models import efficientnet_b0

    published = randomize(efficientnet_b0(weights=None))
    ours = EfficientNet(in_channels=3, image_size=224, num_classes=1000)
    copy_all(published, ours)
    images = torch.randn(1, 3, 224, 224)
    assert (ours.eval()(images) - published(images)).abs().max() <= 1e-5


def test_the_peers_that_training_speed_is_compared_with_compute_the_same(compose: Callable[..., DictConfig]) -> None:
    pytest.importorskip("timm", reason="the comparison needs the extra [timm]")
    from benchmarks.throughput import PEERS, check_same

    assert len(PEERS) == 8
    for family, peer in PEERS.items():
        net = compose(f"model=cifar10_{family}_210k").model.net
        check_same(instantiate(net), peer(OmegaConf.to_container(net), instantiate(net)))


def test_grn_follows_its_formula() -> None:
    grn = GlobalResponseNorm(3)
    with torch.no_grad():
        grn.gamma.copy_(torch.tensor([0.5, -1.0, 2.0]))
        grn.beta.copy_(torch.tensor([0.1, 0.2, 0.3]))
    x = torch.randn(2, 4, 5, 3)
    expected = torch.empty_like(x)
    for sample in range(2):
        norms = [x[sample, :, :, channel].pow(2).sum().sqrt() for channel in range(3)]
        mean = sum(norms) / 3
        for channel in range(3):
            values = x[sample, :, :, channel]
            response = values * (norms[channel] / (mean + 1e-6))
            expected[sample, :, :, channel] = grn.gamma[channel] * response + grn.beta[channel] + values
    torch.testing.assert_close(grn(x), expected)


def test_attention_is_the_softmax_of_scaled_products() -> None:
    attention = Attention(embed_dim=8, num_heads=2)
    x = torch.randn(3, 5, 8)
    q, k, v = attention.qkv(x).view(3, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights: Tensor = (q @ k.transpose(-2, -1) / 4**0.5).softmax(-1)
    expected = attention.proj((weights @ v).transpose(1, 2).reshape(3, 5, 8))
    torch.testing.assert_close(attention(x), expected)


def resnet(**changes: object) -> ResNet:
    sizes = {"in_channels": 3, "image_size": 32, "num_classes": 4, "depths": (1, 1), "dims": (8, 16)}
    return ResNet(**{**sizes, **changes})


def renamed(net: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a net under other names, in the same order."""
    return {name.replace("blocks", "layers").replace("head", "fc"): value for name, value in net.state_dict().items()}


def test_a_head_of_other_classes_is_left_as_it_is() -> None:
    ours, theirs = resnet(num_classes=3), resnet(num_classes=1000)
    before = ours.head.weight.clone()
    new, unused = load_published(ours, renamed(theirs))
    assert [name for name, _ in new] == ["head.weight", "head.bias"]
    assert [name for name, _ in unused] == ["fc.weight", "fc.bias"]
    assert torch.equal(ours.head.weight, before) and torch.equal(ours.stem[0].weight, theirs.stem[0].weight)


@pytest.mark.parametrize("head", ["", "head."])
def test_several_heads_are_left_as_they_are_and_weights_need_none(head: str) -> None:
    ours, theirs = resnet(num_classes={"digit": 10, "thickness": 5}), resnet()
    before = ours.head["digit"].weight.clone()
    state = {name: value for name, value in renamed(theirs).items() if head or not name.startswith("fc.")}
    new, unused = load_published(ours, state)
    assert [name for name, _ in new][::2] == ["head.digit.weight", "head.thickness.weight"]
    assert len(unused) == (2 if head else 0)
    assert torch.equal(ours.head["digit"].weight, before) and torch.equal(ours.stem[0].weight, theirs.stem[0].weight)


def test_a_layers_tensors_may_be_in_any_order_and_counters_be_missing() -> None:
    """As in the files of torchvision that are older than batch norm's counter."""
    ours, theirs = resnet(), randomize(resnet())
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    state = {name: value for name, value in renamed(theirs).items() if "num_batches" not in name}
    layers: dict[str, list[str]] = {}
    for name in state:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    turned = {name: state[name] for names in layers.values() for name in reversed(names)}
    assert list(turned) != list(state) and load_published(ours, turned) == ([], [])
    for name, value in ours.state_dict().items():
        assert "num_batches" in name or torch.equal(value, theirs.state_dict()[name])


def test_the_nets_own_names_are_followed_in_any_order() -> None:
    ours, theirs = resnet(), resnet()
    assert load_published(ours, dict(reversed(theirs.state_dict().items()))) == ([], [])
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"in_channels": 1},
            r"ResNet has stem\.0\.weight \(8, 3, 3, 3\), the file has stem\.0\.weight \(8, 1, 3, 3\)",
        ),
        ({"depths": (1, 2)}, r"ResNet has head\.weight|the file has layers\.2"),
        ({"depths": (1,), "dims": (8,)}, r"the file has (nothing|fc)"),
        ({"dims": (8, 24)}, r"the file has layers\.1\.\S+ \(24, "),
    ],
)
def test_weights_of_another_net_are_refused_by_the_first_tensor_that_does_not_fit_and_change_nothing(
    other: dict[str, object], words: str
) -> None:
    ours = resnet()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(ValueError, match=f"The weights are from a different net: .*{words}"):
        load_published(ours, renamed(resnet(**other)))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_a_tensor_of_another_kind_does_not_fit_though_its_shape_does() -> None:
    ours = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    swapped = {"a.weight": torch.zeros(4, 4), "a.bias": torch.zeros(4), "b.running_mean": torch.zeros(4)}
    rest = {"b.running_var": torch.zeros(4), "c.weight": torch.zeros(2, 4), "c.bias": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"1\.weight \(4,\), the file has b\.running_mean \(4,\)"):
        load_published(ours, {**swapped, **rest})
    integers = {name: value.long() for name, value in nn.Linear(4, 4).state_dict().items()}
    with pytest.raises(ValueError, match="a different net"):
        load_published(nn.Linear(4, 4), integers)
