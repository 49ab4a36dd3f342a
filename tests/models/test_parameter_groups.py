"""Parts of a net get the configured rates and weight decays, and by default the same as ever."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from src.models.components.layers import Heads
from src.models.components.resnet import ResNet
from src.models.components.simple_cnn import SimpleCNN
from src.models.components.vision_transformer import VisionTransformer
from src.models.parameter_groups import ParameterGroups, depths_of
from src.models.schedulers import Schedule, linear, one_cycle, plateau, warmup_cosine
from src.run.instantiate import instantiate

ADAMW = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)


def vit() -> VisionTransformer:
    return VisionTransformer(
        in_channels=1, image_size=8, num_classes=4, patch_size=4, embed_dim=8, depth=2, num_heads=2, mlp_ratio=2
    )


def optimizer_of(net: nn.Module, make: Callable[..., Optimizer] = ADAMW, **options: Any) -> Optimizer:
    return ParameterGroups(**options).build(make, net, dict(net.named_parameters()))


def settings(net: nn.Module, optimizer: Optimizer) -> dict[str, tuple[float, float]]:
    """Return the rate and weight decay of each parameter; each is in a single group."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    found = [
        (names[id(parameter)], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(name for name, _ in found) == sorted(names.values())
    return dict(found)


# ---- by default


@pytest.mark.parametrize("name", ["mnist_cnn_8k", "mnist_vit_38k", "mnist_resnet_64k", "mnist_mh_cnn_422k"])
def test_by_default_there_are_the_two_groups_that_there_always_were(
    name: str, compose: Callable[..., DictConfig]
) -> None:
    """In the same order, with the same options: so that states of former checkpoints fit, and runs are the same."""
    model = instantiate(compose(f"model={name}", "recipe=plain").model)
    parameters = list(model.parameters())
    optimizer, plain = model.make_optimizer(), torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)
    for group, is_member, decay in zip(
        optimizer.param_groups, (lambda one: one.ndim >= 2, lambda one: one.ndim < 2), (0.01, 0.0), strict=True
    ):
        assert [id(one) for one in group["params"]] == [id(one) for one in parameters if is_member(one)]
        assert (group["lr"], group["weight_decay"]) == (0.001, decay)
        assert group.keys() == plain.param_groups[0].keys()


def test_a_net_without_biases_has_an_empty_group_as_ever() -> None:
    net = nn.Linear(2, 2, bias=False)
    assert [len(group["params"]) for group in optimizer_of(net).param_groups] == [1, 0]


@pytest.mark.parametrize("name", ["adam", "adamw", "lamb", "lion", "muon", "sgd"])
def test_every_optimizer_takes_groups_of_different_rates(name: str, compose: Callable[..., DictConfig]) -> None:
    """Steps of the same gradients are as long as the rates say, and an empty group does no harm."""
    if name in ("lamb", "lion", "muon"):
        pytest.importorskip("timm", reason="these optimizers come with the extra [timm]")
    make = instantiate(compose(f"model/optimizer={name}", "model.optimizer.weight_decay=0").model.optimizer)
    net = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    net[1].load_state_dict(net[0].state_dict())
    before = net[0].weight.detach().clone()
    optimizer = optimizer_of(net, make, layer_decay=0.5)
    gradient = torch.randn(8, 8)
    for layer in net:
        layer.weight.grad = gradient.clone()
    optimizer.step()
    steps = [float((layer.weight.detach() - before).norm()) for layer in net]
    assert steps[0] == pytest.approx(0.5 * steps[1], rel=1e-3) and steps[0] > 0


# ---- depth


def test_depth_follows_the_blocks_of_a_vit() -> None:
    depths = depths_of(vit())
    assert {depths[name] for name in depths if name.startswith(("patch_embed", "position"))} == {0}
    assert {depths[name] for name in depths if name.startswith("blocks.0.")} == {1}
    assert {depths[name] for name in depths if name.startswith(("blocks.1.", "norm."))} == {2}
    assert {depths[name] for name in depths if name.startswith("head.")} == {3}


def test_depth_follows_the_stem_blocks_and_head_of_a_resnet() -> None:
    depths = depths_of(ResNet(in_channels=1, image_size=8, num_classes=4, depths=[1, 1, 1], dims=[4, 4, 8]))
    by_part = {part: {depths[name] for name in depths if name.startswith(part)} for part in ("stem", "blocks", "head")}
    assert by_part == {"stem": {0}, "blocks": {1, 2, 3}, "head": {4}}
    assert depths["stem.0.weight"] == depths["stem.1.weight"], "a norm belongs to the convolution before it"


def test_several_heads_are_one_layer() -> None:
    norm = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU())
    depths = depths_of(nn.Sequential(nn.Conv2d(1, 2, 3), norm, Heads(2, {"a": 2, "b": 3})))
    assert {name: depth for name, depth in depths.items() if "bias" in name} == {
        "0.bias": 0,
        "1.0.bias": 0,
        "2.a.bias": 1,
        "2.b.bias": 1,
    }


def test_a_wrapper_is_no_layer() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = vit()

    assert depths_of(Wrapper()) == {f"inner.{name}": depth for name, depth in depths_of(vit()).items()}


def test_a_single_layer_is_a_head() -> None:
    assert set(depths_of(nn.Linear(2, 2)).values()) == {0}
    assert depths_of(nn.Flatten()) == {}


# ---- what can be set


def test_the_rate_falls_by_layer_decay_towards_the_first_layer() -> None:
    net = vit()
    found = settings(net, optimizer_of(net, layer_decay=0.5))
    assert found["head.weight"] == (0.01, 0.1)
    assert found["norm.weight"] == found["blocks.1.norm1.bias"] == (0.005, 0.0)
    assert found["blocks.0.mlp.0.weight"] == (0.0025, 0.1)
    assert found["patch_embed.weight"] == found["position"] == (0.00125, 0.1)


def test_the_head_may_have_another_rate() -> None:
    net = vit()
    found = settings(net, optimizer_of(net, head_lr_ratio=10))
    assert {name for name, (rate, _) in found.items() if rate == 0.1} == {"head.weight", "head.bias"}
    assert {rate for name, (rate, _) in found.items() if "head" not in name} == {0.01}


def test_norm_biases_may_have_another_rate() -> None:
    net = SimpleCNN(in_channels=1, image_size=8, num_classes=3)
    norms = {name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert norms
    found = settings(net, optimizer_of(net, norm_bias_lr_ratio=64))
    assert {name for name, (rate, _) in found.items() if rate == 0.64} == {f"{name}.bias" for name in norms}
    assert {rate for rate, _ in found.values()} == {0.01, 0.64}


def test_norms_and_biases_may_be_decayed() -> None:
    net = vit()
    optimizer = optimizer_of(net, decay_norms_and_biases=True)
    assert {decay for _, decay in settings(net, optimizer).values()} == {0.1}


def test_patterns_change_the_rest_and_multiply_with_it() -> None:
    net = vit()
    patterns = {
        "position": {"weight_decay": 0.0},
        "blocks.*": {"lr_ratio": 0.1},
        "blocks.1.*bias": {"lr_ratio": 2.0, "weight_decay": 0.3},
    }
    found = settings(net, optimizer_of(net, layer_decay=0.5, patterns=patterns))
    assert found["position"] == (0.00125, 0.0)
    assert found["blocks.0.norm1.weight"] == pytest.approx((0.01 * 0.25 * 0.1, 0.0))
    assert found["blocks.1.norm1.bias"] == pytest.approx((0.01 * 0.5 * 0.1 * 2, 0.3))
    assert found["head.weight"] == (0.01, 0.1)


def test_the_first_group_has_the_rate_that_is_logged() -> None:
    optimizer = optimizer_of(vit(), layer_decay=0.5, head_lr_ratio=3)
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_a_configuration_sets_them(compose: Callable[..., DictConfig]) -> None:
    """With the names of the net, dots and globs included."""
    options = ["model/parameter_groups=finetuning", "model.parameter_groups.head_lr_ratio=4"]
    options += ["model.parameter_groups.patterns={features.0:{lr_ratio:0.5},*bias:{weight_decay:0.2}}"]
    model = instantiate(compose("model=mnist_cnn_8k", "recipe=plain", *options).model)
    found = settings(model.net, model.make_optimizer())
    assert found["head.weight"] == (pytest.approx(0.004), 0.01) and found["head.bias"] == (pytest.approx(0.004), 0.2)
    depth = depths_of(model.net)["head.weight"]
    assert found["features.0.weight"][0] == pytest.approx(0.001 * 0.75**depth * 0.5)


# ---- schedules


@pytest.mark.parametrize(
    "schedule",
    [warmup_cosine, linear, one_cycle, partial(plateau, monitor="val/loss", patience=0)],
    ids=["warmup_cosine", "linear", "one_cycle", "plateau"],
)
def test_a_schedule_scales_all_groups_alike(schedule: Callable[..., Schedule]) -> None:
    optimizer = optimizer_of(vit(), layer_decay=0.5, norm_bias_lr_ratio=64)
    ratios = [group["lr"] / 0.01 for group in optimizer.param_groups]
    assert len(set(ratios)) > 4
    scheduler: Any = schedule(optimizer, total_steps=20, steps_per_epoch=5)["scheduler"]
    rates = set()
    for _ in range(19):
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
        rate = optimizer.param_groups[0]["lr"]
        rates.add(rate)
        assert [group["lr"] / rate for group in optimizer.param_groups] == pytest.approx(ratios, rel=1e-6)
        if rate < 1e-6:  # torch's plateau leaves differences below 1e-8
            break
    assert len(rates) > 3


# ---- mistakes


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layer_decay": 0}, r"layer_decay=0 must be above 0 and at most 1"),
        ({"layer_decay": 1.5}, r"layer_decay=1\.5"),
        ({"head_lr_ratio": 0}, r"head_lr_ratio=0 must be above 0; to freeze weights, use model\.freeze"),
        ({"norm_bias_lr_ratio": -1}, r"norm_bias_lr_ratio=-1"),
        (
            {"patterns": {"head": {"lr": 1}}},
            r"patterns\.head=\{'lr': 1\} must give numbers for lr_ratio or weight_decay, or both",
        ),
        ({"patterns": ["head"]}, r"patterns=\['head'\] must be a mapping"),
        ({"patterns": {"head": 2}}, r"patterns\.head=2 must give"),
        ({"patterns": {"head": {"lr_ratio": "2"}}}, r"patterns\.head=\{'lr_ratio': '2'\} must give"),
        ({"patterns": {"head": None}}, r"patterns\.head=None must give"),
        ({"patterns": {"head": {"lr_ratio": 0.0}}}, r"patterns\.head\.lr_ratio=0\.0 must be above 0"),
        ({"patterns": {"head": {"weight_decay": -1}}}, r"patterns\.head\.weight_decay=-1 must not be negative"),
    ],
)
def test_values_out_of_range_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ParameterGroups(**options)


def test_a_pattern_that_matches_nothing_is_named() -> None:
    with pytest.raises(ValueError, match=r"model\.parameter_groups\.patterns: .* named haed\. Did you mean head"):
        optimizer_of(vit(), patterns={"haed": {"lr_ratio": 2}})


def test_what_the_optimizer_rejects_has_its_key() -> None:
    with pytest.raises(ValueError, match=r"model\.optimizer: Invalid learning rate"):
        optimizer_of(vit(), partial(torch.optim.AdamW, lr=-1.0))
