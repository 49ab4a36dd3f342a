"""Layers that several nets share: fast on a CPU, and the same outputs as torch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from src.models.components.hybrid_cnn_transformer import HybridCNNTransformer
from src.models.components.layers import Attention, DepthwiseConv2d, Dropout, fit_positions, make_head
from src.models.components.vision_transformer import VisionTransformer


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_zeroes_its_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1001, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    assert y.dtype == dtype
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.002)
    assert y.unique().numel() == 2
    assert y.float().mean().item() == pytest.approx(1, abs=0.01)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_draws_anew_follows_the_seed_and_does_nothing_in_evaluation() -> None:
    layer, x = Dropout(0.5), torch.randn(3, 33)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x).equal(x) and not Dropout(1.0)(x).any()
    assert layer.train()(torch.zeros(0, 3)).shape == (0, 3)


def test_dropout_is_even_over_places() -> None:
    torch.manual_seed(0)
    zeros = torch.stack([Dropout(0.5)(torch.ones(67)) == 0 for _ in range(4000)]).float().mean(dim=0)  # (67,)
    assert zeros.min() > 0.45 and zeros.max() < 0.55


@pytest.mark.parametrize("layer", [Attention(16, 2), DepthwiseConv2d(16, 3)], ids=lambda layer: type(layer).__name__)
def test_what_is_slow_in_bfloat16_trains_in_float32(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    seen = []  # the kinds of numbers that attention computes with
    attend = F.scaled_dot_product_attention

    def watched(*qkv: torch.Tensor) -> torch.Tensor:
        result = attend(*qkv)
        seen.append(result.dtype)
        return result

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    x = torch.randn(2, 5, 16) if isinstance(layer, Attention) else torch.randn(2, 16, 5, 5)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        y.float().sum().backward()
        assert seen == ([torch.float32] * 2 if isinstance(layer, Attention) else [])
        assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())
        if isinstance(layer, DepthwiseConv2d):
            assert torch.equal(y, exact)
            assert layer.eval()(x).dtype == torch.bfloat16  # nothing is slow forward
    torch.testing.assert_close(y.float(), exact, atol=0.05, rtol=0.05)


def test_a_depthwise_convolution_is_torchs() -> None:
    torch.manual_seed(0)
    ours, x = DepthwiseConv2d(6, 5, stride=2, bias=False), torch.randn(2, 6, 9, 9)
    published = nn.Conv2d(6, 6, 5, stride=2, padding=2, groups=6, bias=False)
    published.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), published(x)) and ours(x).shape == (2, 6, 5, 5)


def test_a_head_of_no_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes=null gives no number of classes"):
        make_head(3, None)  # type: ignore[arg-type]


def test_positions_keep_their_places_when_they_are_interpolated() -> None:
    """A ramp over the image stays one, in the order of the tokens; their own grid is left as it is."""
    own = torch.randn(1, 49, 3)
    assert fit_positions(own, 7, 7) is own
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 8), torch.linspace(0, 1, 8), indexing="ij")
    ramp = torch.stack([rows, columns], dim=-1).view(64, 2)
    fitted = fit_positions(ramp, 4, 16)
    assert fitted.shape == (64, 2)
    down, across = fitted.view(4, 16, 2).unbind(-1)
    assert (down.diff(dim=0) > 0.15).all() and torch.allclose(down, down[:, :1].expand(-1, 16), atol=1e-5)
    assert (across.diff(dim=1)[:, 2:-2] > 0.04).all() and torch.allclose(across, across[:1].expand(4, -1), atol=1e-5)
    torch.testing.assert_close(fit_positions(torch.ones(5, 16, 2), 3, 2), torch.ones(5, 6, 2))


@pytest.mark.parametrize(
    "net",
    [
        VisionTransformer(in_channels=1, image_size=16, num_classes=3, patch_size=4, embed_dim=8, num_heads=2, depth=1),
        HybridCNNTransformer(
            in_channels=1,
            image_size=16,
            num_classes=3,
            channels=(4, 8, 16),
            embed_dim=8,
            num_heads=2,
            global_dim=8,
            head_dims=(8, 8),
        ),
    ],
    ids=lambda net: type(net).__name__,
)
def test_a_net_with_positions_learns_from_images_of_other_sizes(net: nn.Module) -> None:
    for size in (8, 12, 16, 24):
        net.zero_grad()
        logits = net(torch.randn(4, 1, size, size))
        logits.square().sum().backward()
        assert logits.shape == (4, 3)
        assert net.position.grad is not None and (net.position.grad != 0).any(dim=-1).all()


def test_an_image_that_patches_do_not_fill_is_refused() -> None:
    net = VisionTransformer(in_channels=1, image_size=16, num_classes=3, patch_size=4)
    with pytest.raises(ValueError, match=r"\(2, 1, 16, 18\), but the net takes \(batch, 1, 4 · n, 4 · n\)"):
        net(torch.zeros(2, 1, 16, 18))
