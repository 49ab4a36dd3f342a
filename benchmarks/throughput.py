"""Train-step throughput of each family's 210k net beside a published implementation of the same shape.

    python benchmarks/throughput.py             # needs the extra [timm]

CIFAR's shape, batch 128, fused AdamW: forward, loss, backward, step. Ours and the peer's run in turn, in short blocks,
so that a change of the machine's speed meets both; the medians of the blocks and of their ratios are printed.
`channels-last` gives the same net with its tensors in that memory format.
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
import timm
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F
from torchvision.models.efficientnet import EfficientNet, MBConvConfig

from src.config.paths import CONFIGS
from src.run.instantiate import instantiate

FAMILIES = ("sdn", "mlp", "cnn", "convnext", "vit", "efficientnet", "hybrid")
BATCH, BLOCKS, SECONDS = 128, 9, 0.7


def peer(family: str, ours: Any, net: dict[str, Any]) -> nn.Module | None:
    """The published implementation in the sizes of our net; None where there is none."""
    if family == "vit":
        sizes = {"img_size": 32, "patch_size": net["patch_size"], "embed_dim": net["embed_dim"], "depth": net["depth"]}
        heads = {"num_heads": net["num_heads"], "mlp_ratio": net["mlp_ratio"], "num_classes": 10}
        pooling = {"class_token": False, "global_pool": "avg", "fc_norm": False}
        return timm.models.vision_transformer.VisionTransformer(**sizes, **heads, **pooling)
    if family == "convnext":
        published = timm.models.convnext.ConvNeXt(
            num_classes=10, depths=net["depths"], dims=net["dims"], use_grn=True, ls_init_value=None
        )
        published.stem[0] = nn.Conv2d(3, net["dims"][0], kernel_size=2, stride=2)  # our stem for small images
        return published
    if family == "efficientnet":
        ends = accumulate(stage[4] for stage in net["stages"])
        channels = [ours.blocks[end - 1].layers[-1][0].out_channels for end in ends]
        before = [ours.stem[0].out_channels, *channels[:-1]]
        settings = [
            MBConvConfig(stage[0], stage[1], 1 if number == 1 else stage[2], before[number], channels[number], stage[4])
            for number, stage in enumerate(net["stages"])
        ]
        return EfficientNet(settings, dropout=0.2, last_channel=ours.last[0].out_channels, num_classes=10)
    return None


def stepper(net: nn.Module, memory_format: torch.memory_format) -> Callable[[], None]:
    """One train step of a net on a fixed batch."""
    net = net.train().to(memory_format=memory_format)
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=memory_format)
    labels = torch.randint(10, (BATCH,))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6, fused=True)  # learning the batch by heart would slow it

    def step() -> None:
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def images_per_second(step: Callable[[], None]) -> float:
    """Over a block of some tenths of a second."""
    start, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        step()
        steps += 1
    return steps * BATCH / elapsed


def main() -> None:
    """Time all families and print the table."""
    print(f"train step, 3x32x32, batch {BATCH}, {torch.get_num_threads()} threads, torch {torch.__version__}, images/s")
    print(f"{'net':28s} {'parameters':>10s} {'ours':>8s} {'channels-last':>14s} {'peer':>8s} {'ours / peer':>12s}")
    for family in FAMILIES:
        name = f"cifar10_{family}_210k"
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = hydra.compose("train", [f"model={name}"])
        ours = instantiate(cfg.model.net)
        steps = {"ours": stepper(ours, torch.contiguous_format)}
        steps["channels-last"] = stepper(instantiate(cfg.model.net), torch.channels_last)
        published = peer(family, ours, OmegaConf.to_container(cfg.model.net))
        parameters = sum(parameter.numel() for parameter in ours.parameters())
        if published is not None:
            assert sum(parameter.numel() for parameter in published.parameters()) == parameters, "not the same shape"
            steps["peer"] = stepper(published, torch.contiguous_format)
        for step in steps.values():
            step()
        blocks = [{key: images_per_second(step) for key, step in steps.items()} for _ in range(BLOCKS)]
        median = {key: statistics.median(block[key] for block in blocks) for key in steps}
        ratio = statistics.median(block["ours"] / block.get("peer", float("nan")) for block in blocks)
        theirs = f"{median['peer']:8,.0f} {ratio:12.2f}" if published is not None else f"{'-':>8s} {'-':>12s}"
        print(f"{name:28s} {parameters:10,d} {median['ours']:8,.0f} {median['channels-last']:14,.0f} {theirs}")


if __name__ == "__main__":
    main()
