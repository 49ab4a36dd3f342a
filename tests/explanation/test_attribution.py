"""Grad-CAM and attention rollout agree with their definitions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from src.explanation.attribution import Trace, attribution_section, grad_cam, heat_maps, rollout, token_map
from src.explanation.section import LeftOut
from src.models.components.layers import Attention
from src.models.components.mobilevit import MobileViT
from src.models.components.resnet import ResNet
from src.models.components.simple_mlp import SimpleMLP
from src.models.components.vision_transformer import VisionTransformer
from tests.explanation.conftest import MakeSubject


def test_grad_cam_of_mean_pooling_and_a_linear_layer_is_known() -> None:
    features = torch.randn(2, 3, 4, 4, requires_grad=True)
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.1, -1.0]])  # for two classes
    logits = features.mean(dim=(2, 3)) @ weights.T  # (2, 2)
    found = grad_cam(features, logits[:, 1])
    by_hand = (weights[1].view(1, 3, 1, 1) / 16 * features).sum(1).clamp(min=0)  # the gradient is the weight / 16
    torch.testing.assert_close(found, by_hand.detach())


class Window(nn.Module):
    """An identity convolution whose output is modified in place, and a class for each half of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv(x), inplace=True)
        halves = x[..., :4].mean(dim=(1, 2, 3)), x[..., 4:].mean(dim=(1, 2, 3))
        return torch.stack([*halves, 0 * halves[0], 0 * halves[0]], dim=1)


def test_what_is_changed_in_place_afterwards_is_kept_as_it_was() -> None:
    net, image = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True)), torch.randn(1, 1, 4, 4)
    with Trace(nn.Sequential(net[0])) as trace:
        net(image)
    assert trace.features is not None and torch.equal(trace.features, net[0](image)) and trace.features.min() < 0


def test_what_is_bright_is_what_the_class_was_told_by(make_subject: MakeSubject) -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2:5, 5:7] = 1.0
    maps, method = heat_maps(make_subject(Window()), [image], "class")
    assert method == "Grad-CAM" and torch.equal(maps[0] > 0.5, image[0, 0] > 0.5)


def test_the_recorded_attention_is_that_of_the_net() -> None:
    layer, x = Attention(8, 2).eval(), torch.randn(3, 5, 8)
    with Trace(nn.Sequential(layer)) as trace:
        layer(x)
    q, k, _ = layer.qkv(x).view(3, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    by_hand = (q @ k.transpose(2, 3) / 2).softmax(-1).mean(1)
    torch.testing.assert_close(trace.attentions[0], by_hand)
    layer(x)
    assert len(trace.attentions) == 1  # nothing is recorded outside of the context


def test_rows_of_a_rollout_sum_to_one_and_a_residual_stays() -> None:
    attentions = [torch.randn(2, 9, 9).softmax(-1) for _ in range(4)]
    flow = rollout(attentions)
    torch.testing.assert_close(flow.sum(-1), torch.ones(2, 9))
    eye = torch.eye(9)
    torch.testing.assert_close(rollout(attentions[:2]), (attentions[1] + eye) / 2 @ ((attentions[0] + eye) / 2))


def test_tokens_are_a_grid_with_or_without_a_class_token() -> None:
    flow = torch.rand(2, 9, 9)
    torch.testing.assert_close(token_map(flow), flow.mean(1).view(2, 3, 3))
    with_class = torch.rand(2, 10, 10)
    torch.testing.assert_close(token_map(with_class), with_class[:, 0, 1:].reshape(2, 3, 3))
    assert token_map(torch.rand(2, 7, 7)) is None


SMALL = {"in_channels": 1, "image_size": 8, "num_classes": 4}
VIT = {**SMALL, "patch_size": 2, "embed_dim": 8, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize(
    ("net", "method"),
    [
        (lambda: VisionTransformer(**VIT), "attention rollout"),
        (lambda: VisionTransformer(**VIT, tokenizer="convolutions"), "attention rollout"),
        (lambda: ResNet(**SMALL, dims=[4, 8], depths=[1, 1]), "Grad-CAM"),
        (lambda: MobileViT(**{**SMALL, "image_size": 32}), "Grad-CAM"),
    ],
    ids=["vit", "vit with convolutions", "resnet", "mobilevit"],
)
def test_each_family_has_its_method(net: object, method: str, make_subject: MakeSubject) -> None:
    module = net().eval()  # type: ignore[operator]
    size = 32 if isinstance(module, MobileViT) else 8
    maps, found = heat_maps(make_subject(module), [torch.randn(3, 1, size, size)], "class")
    assert found == method and maps.shape == (3, size, size) and maps.min() >= 0 and maps.max() <= 1
    assert maps.amax(dim=(1, 2)).max() == 1 and not list(module.modules())[1]._forward_hooks


def test_a_net_without_either_is_a_reason(make_subject: MakeSubject) -> None:
    with pytest.raises(LeftOut, match="SimpleMLP has neither convolutions"):
        attribution_section(make_subject(SimpleMLP(**SMALL, hidden_sizes=[8])))
