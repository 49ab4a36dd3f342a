"""The three tokenizers of the ViT."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from src.models.components.vision_transformer import ConvTokenizer, ShiftedPatches, VisionTransformer

KINDS = ("patches", "shifted_patches", "convolutions")


def vit(tokenizer: str, image_size: int = 16, patch_size: int = 4, channels: int = 3) -> VisionTransformer:
    torch.manual_seed(0)
    sizes = {"in_channels": channels, "image_size": image_size, "num_classes": 5, "patch_size": patch_size}
    return VisionTransformer(**sizes, tokenizer=tokenizer, embed_dim=8, depth=1, num_heads=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("image_size", "patch_size"), [(28, 4), (12, 2), (16, 8)])
def test_all_make_a_token_for_each_patch_and_have_a_position_for_each(
    kind: str, image_size: int, patch_size: int
) -> None:
    net = vit(kind, image_size, patch_size)
    side = image_size // patch_size
    assert net.patch_embed(torch.randn(2, 3, image_size, image_size)).shape == (2, 8, side, side)
    assert net.position.shape == (1, side**2, 8)
    assert net(torch.randn(2, 3, image_size, image_size)).shape == (2, 5)


@pytest.mark.parametrize(("kind", "reach"), [("patches", 0), ("shifted_patches", 1), ("convolutions", 2)])
def test_a_token_s_position_is_that_of_its_patch(kind: str, reach: int) -> None:
    """What changes in the middle of one patch changes its own token, and others up to some tokens away."""
    embed = vit(kind, image_size=32).patch_embed
    images = torch.randn(1, 3, 32, 32)
    for row, column in ((0, 0), (3, 2), (7, 5)):
        changed = images.clone()
        changed[:, :, 4 * row + 1 : 4 * row + 3, 4 * column + 1 : 4 * column + 3] += 5
        with torch.no_grad():
            difference = (embed(changed) - embed(images)).square().sum(dim=1)[0]  # (8, 8)
        changed_at = difference.nonzero().tolist()
        assert [row, column] in changed_at
        assert max(max(abs(y - row), abs(x - column)) for y, x in changed_at) <= reach


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns_and_it_exports(kind: str) -> None:
    net = vit(kind)
    images = torch.randn(4, 3, 16, 16)
    F.cross_entropy(net(images), torch.arange(4)).backward()
    assert all(one.grad is not None and one.grad.any() for one in net.parameters())
    exported = torch.export.export(net.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.testing.assert_close(exported.module()(images[:3]), net(images[:3]))
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), net(images))


def test_a_shifted_patch_holds_its_pixels_and_those_half_a_patch_away() -> None:
    layer = ShiftedPatches(in_channels=1, patch_size=4, embed_dim=80)
    layer.norm, layer.embed = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    image = torch.arange(1.0, 145).view(1, 1, 12, 12)
    values = layer(image)[0, :, 1, 2].view(5, 4, 4)  # of the patch at rows 4 to 7 and columns 8 to 11
    padded = F.pad(image[0, 0], (2, 2, 2, 2))
    for shifted, (down, right) in zip(values, [(0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2)], strict=True):
        assert torch.equal(shifted, padded[6 + down : 10 + down, 10 + right : 14 + right])


def test_the_convolutional_tokenizer_is_the_paper_s() -> None:
    """CCT's 3×2: two blocks of a 3×3 convolution without bias, ReLU, and a max-pool 3×3 of stride 2."""
    layers = ConvTokenizer(in_channels=3, patch_size=4, embed_dim=128)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [(one.in_channels, one.out_channels, one.bias) for one in convolutions] == [(3, 64, None), (64, 128, None)]
    images = torch.randn(2, 3, 32, 32)
    expected = images
    for conv in convolutions:
        expected = F.max_pool2d(F.conv2d(expected, conv.weight, padding=1).relu(), 3, 2, 1)
    torch.testing.assert_close(layers(images), expected)


@pytest.mark.parametrize(
    ("kind", "patch_size", "message"),
    [
        ("convolutions", 6, "patch_size=6 must be 2, 4, 8"),
        ("convolutions", 1, "patch_size=1 must be 2, 4, 8"),
        ("linear", 6, "tokenizer=linear must be one of patches, shifted_patches, convolutions"),
    ],
)
def test_a_patch_size_that_a_tokenizer_cannot_make_is_refused(kind: str, patch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vit(kind, image_size=30, patch_size=patch_size)
