"""What int8 costs and brings: each family's 210k net on Fashion-MNIST, and the hybrid at 224 px.

    python benchmarks/quantization.py            # all; half an hour, and the trainings where there are none yet
    python benchmarks/quantization.py cnn vit    # only these families; the README is left alone

Each net is trained for 4 epochs on Fashion-MNIST at 32 px, 3 channels, in logs/quantization/<family>, unless a finished
run is there. Then it is quantised in every mode, and the int8 models are timed beside the net in float32, in turn. The
hybrid's weights are random and its images noise: its figures are of speed and size.
"""

import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hydra
import torch
from omegaconf import OmegaConf

from benchmarks.readme import write_table
from src.config.paths import CONFIGS
from src.deploy import openvino_format
from src.deploy.exporting import split_loaders, staged, write_card
from src.deploy.inference_net import inference_copy, layers, trace
from src.deploy.quantizer import Quantizer
from src.deploy.speed import compare_speeds, weights_size
from src.models.task import Task
from src.predictor import input_shape, load, read_card
from src.run.instantiate import build_datamodule, build_trained_model, instantiate
from src.run.run import Run
from src.speed.measure import autocast, blocks, inference_step

RUNS = ROOT / "logs" / "quantization"
FAMILIES = ("cnn", "hybrid", "vit", "convnext", "efficientnet")
KINDS = {"static": ("static", "openvino"), "dynamic": ("dynamic", "openvino"), "qat": ("qat", "openvino")}
KINDS |= {"torch static": ("static", "torch")}
SECONDS, BATCH = 2.0, 32


def trained(family: str) -> Path:
    """The run of a family; trained now if it is not there."""
    run_dir = RUNS / family
    if not (run_dir / "metrics.json").is_file():
        shape = ["data=fashion_mnist", "data.image_size=32", "data.channels=3", "trainer.max_epochs=4"]
        tuning = ["callbacks=[default,cpu_autotune]", "callbacks.cpu_tuning.precision=tune", f"hydra.run.dir={run_dir}"]
        command = [sys.executable, str(ROOT / "src" / "train.py"), f"model=cifar10_{family}_210k", *shape, *tuning]
        subprocess.run(command, check=True)
    return run_dir


def best_of(run_dir: Path) -> tuple[Task, Any]:
    """The task of a run with its best weights, and its data."""
    run = Run.open(run_dir)
    cfg = OmegaConf.merge(run.config(), {"paths": {"output_dir": "."}})
    return build_trained_model(cfg, run.best_checkpoint()), build_datamodule(cfg)  # type: ignore[arg-type]


def measure(family: str) -> list[str]:
    """A line of the table."""
    model, datamodule = best_of(trained(family))
    card, batches = datamodule.input_card(), split_loaders(datamodule)
    with tempfile.TemporaryDirectory() as folder:
        done = {}
        for kind, (mode, format) in KINDS.items():
            done[kind] = Quantizer(mode, format)(model, card, batches, Path(folder) / kind)
        folders = {kind: one.folder for kind, one in done.items()}
        speeds = compare_speeds(model.net, folders, input_shape(card), SECONDS, compiled=True)
    reference, size = done["static"].test.reference_value, weights_size(model.net) / 1e6
    print(f"{family}: float32 {reference:.4f}, {speeds['fp32']['images_per_second']:,.0f} images/s, {size:.2f} MB")
    for kind, one in done.items():
        ratio = speeds[kind]["images_per_second"] / speeds["fp32"]["images_per_second"]
        print(
            f"  {kind:13s} {one.test.value:.4f} ({-one.test.drop:+.2f} points)  {len(one.layers)} of "
            f"{len(one.all_layers)} layers  {speeds[kind]['images_per_second']:8,.0f} images/s ({ratio:.2f}x)  "
            f"{speeds[kind]['latency_ms']:.2f} ms  {one.size_mb:.2f} MB ({one.size_mb / size:.2f}x)",
            flush=True,
        )
        for line in one.attempts if len(one.attempts) > 1 else []:
            print(f"    {line}")
    static = done["static"]
    ratio = speeds["static"]["images_per_second"] / speeds["fp32"]["images_per_second"]
    return [
        f"`cifar10_{family}_210k`",
        f"{reference:.4f}",
        *(f"{done[kind].test.value:.4f}" for kind in ("static", "dynamic", "qat")),
        f"{speeds['fp32']['images_per_second']:,.0f} → {speeds['static']['images_per_second']:,.0f} ({ratio:.1f}×)",
        f"{size:.2f} → {static.size_mb:.2f}",
        f"{len(static.layers)} of {len(static.all_layers)}",
    ]


def measure_hybrid() -> None:
    """Print how fast and how large the base hybrid is at 224 px, in torch and as exported."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", ["model=hybrid_base", "data.folder=.", "data.num_classes=1000"])
    torch.manual_seed(0)
    net = instantiate(cfg.model.net).eval()
    card: dict[str, Any] = {"mode": "RGB", "resize": "centre_crop", "image_size": 224, "mean": [0.5] * 3}
    card |= {"std": [0.25] * 3}
    card |= {"outputs": {"class": {"kind": "classes", "names": [str(label) for label in range(1000)]}}, "score": "acc"}
    images = torch.randn(BATCH, *input_shape(card))
    steps = {"torch fp32": inference_step(net, images)}
    fast = instantiate(cfg.model.net).to(memory_format=torch.channels_last)
    steps["torch bf16 channels-last"] = inference_step(fast, images, autocast("bf16-mixed"))
    copy, sizes = inference_copy(net, input_shape(card)), {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("bf16", "int8"):
            name = f"openvino {precision}"
            with staged(Path(folder) / precision) as stage:
                if precision == "int8":
                    computed = openvino_format.write_int8(copy, input_shape(card), stage, "static", images[:16], ())
                    total = len(set(layers(trace(copy, input_shape(card))).values()))
                    print(f"hybrid_base: {len(computed)} of {total} layers compute in int8", flush=True)
                else:
                    openvino_format.write(copy, input_shape(card), stage, precision)
                write_card(stage, card, net, "openvino", precision, openvino_format.FILE)
            sizes[name] = read_card(Path(folder) / precision)["size_bytes"] / 1e6
            steps[name] = partial(load(Path(folder) / precision).run, images.numpy())
        times = blocks(steps, 5, SECONDS)
    sizes["torch fp32"] = weights_size(net) / 1e6
    rows = [["hybrid_base, 3×224×224, batch 32", "images/s", "", "MB"], ["---", "---:", "---:", "---:"]]
    ratios = {name: [a / b for a, b in zip(times["torch fp32"], values, strict=True)] for name, values in times.items()}
    for name, values in times.items():
        speed, ratio = BATCH / statistics.median(values), statistics.median(ratios[name])
        rows.append([name, f"{speed:.0f}", f"{ratio:.1f}×", f"{sizes[name]:.1f}" if name in sizes else "-"])
    write_table("hybrid", rows)


def main() -> None:
    """Measure all, print, and write the README's table."""
    families = sys.argv[1:] or FAMILIES
    if not sys.argv[1:]:
        measure_hybrid()
    rows = [measure(family) for family in families]
    if sys.argv[1:]:
        return
    head = ["net", "float32", "static", "dynamic", "qat", "images/s, batch 32", "MB", "layers in int8"]
    write_table("quantization", [head, ["---", *["---:"] * (len(head) - 1)], *rows])


if __name__ == "__main__":
    main()
