"""Compare the train-step throughput of each family's 210k net with a published implementation of the same shape.

    python benchmarks/throughput.py                  # needs the extra [timm]
    python benchmarks/throughput.py resnet regnet    # only these families

CIFAR's shape, batch 128, fused AdamW: forward, loss, backward, step. Our net and its peer run in turn, in short blocks,
so that a change of the machine's speed affects both; the medians of the blocks and of their ratios are printed. The
command fails unless a peer accepts the same weights and computes the same outputs. `channels-last` is our net in that
memory format.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
import timm
import torch
from omegaconf import OmegaConf
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import nn
from torch.nn import functional as F
from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks.families import chosen
from src.config.paths import CONFIGS
from src.models.published import load_published
from src.run.instantiate import instantiate

FAMILIES = ("sdn", "mlp", "cnn", "resnet", "regnet", "convnext1", "convnext", "vit", "mobilevit")
FAMILIES += ("efficientnet", "efficientnetv2", "hybrid")
BATCH, BLOCKS, SECONDS = 128, 9, 0.7


def vit(net: dict[str, Any], ours: Any) -> nn.Module:
    """Build timm's ViT."""
    sizes = {"img_size": 32, "patch_size": net["patch_size"], "embed_dim": net["embed_dim"], "depth": net["depth"]}
    heads = {"num_heads": net["num_heads"], "mlp_ratio": net["mlp_ratio"], "num_classes": 10}
    pooling = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    return timm.models.vision_transformer.VisionTransformer(**sizes, **heads, **pooling)


def convnext(net: dict[str, Any], ours: Any, **version: Any) -> nn.Module:
    """Build timm's ConvNeXt, of either version, with our stem for small images."""
    published = timm.models.convnext.ConvNeXt(num_classes=10, depths=net["depths"], dims=net["dims"], **version)
    published.stem[0] = nn.Conv2d(3, net["dims"][0], kernel_size=2, stride=2)
    return published


def efficientnet(net: dict[str, Any], ours: Any) -> nn.Module:
    """Build torchvision's EfficientNet; the second stage keeps the resolution, as in ours for small images."""
    ends = accumulate(stage[4] for stage in net["stages"])
    channels = [ours.blocks[end - 1].layers[-1][0].out_channels for end in ends]
    before = [ours.stem[0].out_channels, *channels[:-1]]
    settings = [
        MBConvConfig(stage[0], stage[1], 1 if number == 1 else stage[2], before[number], channels[number], stage[4])
        for number, stage in enumerate(net["stages"])
    ]
    last = ours.last[0].out_channels
    return EfficientNet(settings, dropout=0.2, stochastic_depth_prob=0.0, last_channel=last, num_classes=10)


def efficientnetv2(net: dict[str, Any], ours: Any) -> nn.Module:
    """Build torchvision's EfficientNetV2; the second stage keeps the resolution, as in ours for small images."""
    settings: list[Any] = []
    before = net["fused_stages"][0][3]
    for number, (expansion, kernel, stride, channels, layers) in enumerate([*net["fused_stages"], *net["stages"]]):
        config = FusedMBConvConfig if number < len(net["fused_stages"]) else MBConvConfig
        settings.append(config(expansion, kernel, 1 if number == 1 else stride, before, channels, layers))
        before = channels
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    options = {"norm_layer": norm, "last_channel": net["head_channels"], "num_classes": 10}
    return EfficientNet(settings, dropout=0.2, stochastic_depth_prob=0.0, **options)


def resnet(net: dict[str, Any], ours: Any) -> nn.Module:
    """Build torchvision's ResNet with our stem for small images and our three stages, built by its own method."""
    first, *_, last = net["dims"]
    published = ResNet(BasicBlock, [1, 1, 1, 1])
    published.conv1, published.bn1 = nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)
    published.maxpool, published.layer4 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    published.inplanes = first
    stages = [
        published._make_layer(BasicBlock, dim, depth, stride=2 if number else 1)
        for number, (dim, depth) in enumerate(zip(net["dims"], net["depths"], strict=True))
    ]
    published.layer1, published.layer2, published.layer3 = stages
    published.fc = nn.Linear(last, 10)
    return published


def regnet(net: dict[str, Any], ours: Any) -> nn.Module:
    """Build torchvision's RegNet with our stem, which keeps the size of small images."""
    line = {"w_0": net["initial_width"], "w_a": net["width_slope"], "w_m": net["width_mult"]}
    blocks = {"group_width": net["group_width"], "se_ratio": net["se_ratio"]}
    widths = BlockParams.from_init_params(net["depth"], **line, **blocks)
    published = RegNet(widths, num_classes=10, stem_width=net["stem_channels"])
    published.stem[0].stride = (1, 1)
    return published


def mobilevit(net: dict[str, Any], ours: Any) -> nn.Module:
    """Build timm's MobileViT with our stem, which keeps the size of small images."""
    residual = partial(ByoBlockCfg, type="bottle", gs=1, br=2.0, block_kwargs={"bottle_in": True, "linear_out": True})
    first, second, *others = net["dims"]
    blocks: list[Any] = [residual(d=1, c=first, s=1), residual(d=3, c=second, s=2)]
    for dim, width, depth in zip(others, net["embed_dims"], net["depths"], strict=True):
        sizes = {"transformer_dim": width, "transformer_depth": depth, "patch_size": 2, "num_heads": net["num_heads"]}
        blocks.append((residual(d=1, c=dim, s=2), ByoBlockCfg(type="mobilevit", d=1, c=dim, s=1, block_kwargs=sizes)))
    stem = {"stem_chs": ours.stem[0].out_channels, "stem_type": "3x3", "stem_pool": "", "downsample": ""}
    published = ByobNet(
        ByoModelCfg(blocks=tuple(blocks), **stem, act_layer="silu", num_features=net["head_channels"]), num_classes=10
    )
    published.stem.conv.stride = (1, 1)
    return published


# the published implementation with our net's sizes, by family
PEERS: dict[str, Callable[[dict[str, Any], Any], nn.Module]] = {
    "resnet": resnet,
    "regnet": regnet,
    "convnext1": partial(convnext, ls_init_value=1e-6),
    "convnext": partial(convnext, use_grn=True, ls_init_value=None),
    "vit": vit,
    "mobilevit": mobilevit,
    "efficientnet": efficientnet,
    "efficientnetv2": efficientnetv2,
}


@torch.no_grad()
def check_same(ours: nn.Module, published: nn.Module) -> None:
    """Give our net the weights of the published one, and check that both compute the same."""
    assert load_published(ours, published.state_dict()) == ([], []), "not the same tensors"
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), published.eval()(images), rtol=1e-3, atol=1e-5)


def make_step(net: nn.Module, memory_format: torch.memory_format) -> Callable[[], None]:
    """Return a train step of a net on a fixed batch."""
    net = net.train().to(memory_format=memory_format)
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=memory_format)
    labels = torch.randint(10, (BATCH,))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, fused=True)  # memorising the batch would slow it down

    def step() -> None:
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def images_per_second(step: Callable[[], None]) -> float:
    """Return the speed of a step over a block of `SECONDS`."""
    start, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        step()
        steps += 1
    return steps * BATCH / elapsed


def main() -> None:
    """Time the families and print the table."""
    families = chosen(FAMILIES)
    print(f"train step, 3x32x32, batch {BATCH}, {torch.get_num_threads()} threads, torch {torch.__version__}, images/s")
    print(f"{'net':28s} {'parameters':>10s} {'ours':>8s} {'channels-last':>14s} {'peer':>8s} {'ours / peer':>12s}")
    for family in families:
        name = f"cifar10_{family}_210k"
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = hydra.compose("train", [f"model={name}"])
        ours = instantiate(cfg.model.net)
        parameters = sum(parameter.numel() for parameter in ours.parameters())
        steps = {"ours": make_step(ours, torch.contiguous_format)}
        steps["channels-last"] = make_step(instantiate(cfg.model.net), torch.channels_last)
        if family in PEERS:
            published = PEERS[family](OmegaConf.to_container(cfg.model.net), ours)  # type: ignore[arg-type]
            check_same(instantiate(cfg.model.net), published)
            steps["peer"] = make_step(published, torch.contiguous_format)
        for step in steps.values():
            step()
        blocks = [{key: images_per_second(step) for key, step in steps.items()} for _ in range(BLOCKS)]
        median = {key: statistics.median(block[key] for block in blocks) for key in steps}
        ratio = statistics.median(block["ours"] / block.get("peer", float("nan")) for block in blocks)
        theirs = f"{median['peer']:8,.0f} {ratio:12.2f}" if family in PEERS else f"{'-':>8s} {'-':>12s}"
        print(f"{name:28s} {parameters:10,d} {median['ours']:8,.0f} {median['channels-last']:14,.0f} {theirs}")


if __name__ == "__main__":
    main()
