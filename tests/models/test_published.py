"""Our nets compute what the published implementations compute, given the same weights."""

import pytest
import torch
from torch import Tensor, nn

from src.models.components.convnext_v2 import ConvNeXtV2, GlobalResponseNorm
from src.models.components.efficientnet import EfficientNet, InvertedResidual
from src.models.components.layers import Attention
from src.models.components.vision_transformer import VisionTransformer


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and buffers one after the other: the nets hold the same ones in the same order."""
    ours, theirs = list(target.state_dict().values()), list(source.state_dict().values())
    assert [tuple(value.shape) for value in ours] == [tuple(value.shape) for value in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        mine.copy_(other)


def randomize(net: nn.Module) -> nn.Module:
    """Give every parameter a random value, those too that start at zero or one."""
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
    randomize(published)
    state = published.state_dict()
    renamed = {
        key.replace("patch_embed.proj", "patch_embed")
        .replace("pos_embed", "position")
        .replace(".attn.", ".attention.")
        .replace("mlp.fc1", "mlp.0")
        .replace("mlp.fc2", "mlp.3"): value
        for key, value in state.items()
    }
    ours.load_state_dict(renamed)
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
    copy_in_order(published, ours)
    images = torch.randn(4, 3, size, size)
    difference = (ours.eval()(images) - published(images)).abs().max()
    assert difference <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("stride", "expansion"), [(1, 1), (1, 6), (2, 4)])
def test_efficientnets_block_agrees_with_torchvision(stride: int, expansion: int) -> None:
    from torchvision.models.efficientnet import MBConv, MBConvConfig

    out_channels = 16 if stride == 1 else 24
    published = MBConv(MBConvConfig(expansion, 5, stride, 16, out_channels, 1), 0.0, nn.BatchNorm2d)
    ours = InvertedResidual(16, out_channels, expansion, 5, stride, drop_path_rate=0.0)
    randomize(published)
    copy_in_order(published, ours)
    images = torch.randn(2, 16, 14, 14)
    assert (ours.eval()(images) - published(images)).abs().max() <= 1e-5


@torch.no_grad()
def test_efficientnet_b0_at_224_px_is_torchvisions() -> None:
    from torchvision.models import efficientnet_b0

    published = randomize(efficientnet_b0(weights=None))
    ours = EfficientNet(in_channels=3, image_size=224, num_classes=1000)
    copy_in_order(published, ours)
    images = torch.randn(1, 3, 224, 224)
    assert (ours.eval()(images) - published(images)).abs().max() <= 1e-5


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
