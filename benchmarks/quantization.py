"""Measure the accuracy, speed and size of int8: each family's 210k net on Fashion-MNIST, and the hybrid at 224 px.

    python benchmarks/quantization.py            # measure whatever is missing, and write the tables in docs/
    python benchmarks/quantization.py cnn vit    # only these families; docs/ is not changed
    python benchmarks/quantization.py --table    # only write the table of the nets, of what has been measured

Each net is trained for 4 epochs on Fashion-MNIST at 32 px, 3 channels. Then it is quantised in every mode, and the int8
models are timed against the float32 net, in turn. Results are kept in benchmarks/results/quantization.json. The command
fails if static quantisation costs more than half a point of accuracy. The hybrid's weights are random and its images
noise: only its speed and size are measured. Needs the extra [deploy] and Fashion-MNIST.
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

from benchmarks.families import chosen
from benchmarks.kept_results import kept, known_results
from benchmarks.readme import format_table, write_table
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

FAMILIES = ("cnn", "resnet", "regnet", "hybrid", "mobilevit", "vit", "convnext1", "convnext")
FAMILIES += ("efficientnet", "efficientnetv2")
TRAINING = ["data=fashion_mnist", "data.image_size=32", "data.channels=3", "trainer.max_epochs=4"]
TRAINING += ["callbacks=[default,cpu_autotune]", "callbacks.cpu_tuning.precision=tune"]
KINDS = {"static": ("static", "openvino"), "dynamic": ("dynamic", "openvino"), "qat": ("qat", "openvino")}
KINDS |= {"torch static": ("static", "torch")}
SHOWN = ("static", "dynamic", "qat")
MAX_LOSS = 0.5  # points of accuracy that static quantisation may cost
SECONDS, BATCH = 2.0, 32


def train(overrides: list[str], run_dir: Path) -> None:
    """Train a net in a separate process."""
    command = [sys.executable, "src/train.py", *overrides, f"hydra.run.dir={run_dir}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def best_of(run_dir: Path) -> tuple[Task, Any]:
    """Return the task of a run with its best weights, and its data."""
    run = Run.open(run_dir)
    cfg = OmegaConf.merge(run.config(), {"paths": {"output_dir": "."}})
    return build_trained_model(cfg, run.best_checkpoint()), build_datamodule(cfg)  # type: ignore[arg-type]


def measure(overrides: list[str]) -> dict[str, Any]:
    """Train a net, quantise it in each of `KINDS`, and time all of them.

    Returns:
        For the net (`float32`) and each kind: the test `accuracy`, `images_per_second`, `latency_ms` and the size in
        `mb`; for the kinds also the names of the int8 `layers`, the number of `all_layers`, and the `attempts`.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder, "run")
        train(overrides, run_dir)
        model, datamodule = best_of(run_dir)
        card, batches = datamodule.input_card(), split_loaders(datamodule)
        done = {kind: Quantizer(*how)(model, card, batches, Path(folder, kind)) for kind, how in KINDS.items()}
        folders = {kind: one.folder for kind, one in done.items()}
        speeds = compare_speeds(model.net, folders, input_shape(card), SECONDS, compiled=True)
    reference = {"accuracy": done["static"].test.reference_value, "mb": weights_size(model.net) / 1e6}
    results: dict[str, Any] = {"float32": {**speeds["fp32"], **reference}}
    for kind, one in done.items():
        results[kind] = {**speeds[kind], "accuracy": one.test.value, "mb": one.size_mb, "layers": one.layers}
        results[kind] |= {"all_layers": len(one.all_layers), "attempts": one.attempts}
    return results


def row_of(family: str, results: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    static, float32 = results["static"], results["float32"]
    ratio = static["images_per_second"] / float32["images_per_second"]
    layers = static["layers"] if isinstance(static["layers"], int) else len(static["layers"])  # some kept no names
    return [
        f"`cifar10_{family}_210k`",
        f"{float32['accuracy']:.4f}",
        *(f"{results[kind]['accuracy']:.4f}" for kind in SHOWN),
        f"{float32['images_per_second']:,.0f} → {static['images_per_second']:,.0f} ({ratio:.1f}×)",
        f"{float32['mb']:.2f} → {static['mb']:.2f}",
        f"{layers} of {static['all_layers']}",
    ]


def table_of(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the table of the nets, by family."""
    head = ["net", "float32", *SHOWN, "images/s, batch 32", "MB", "layers in int8"]
    return [head, ["---", *["---:"] * (len(head) - 1)], *(row_of(*item) for item in results.items())]


def measured() -> dict[str, dict[str, Any]]:
    """Return the results that are known, by family; rounded ones only where no others are."""
    known, results = known_results("quantization"), {}
    for family in FAMILIES:
        rounded = (key for key in known if key.startswith(f"model=cifar10_{family}_210k ") and "rounded" in key)
        key = " ".join(training_of(family))
        if result := known.get(key) or known.get(next(rounded, "")):
            results[family] = result
    return results


def training_of(family: str) -> list[str]:
    """Return the overrides that train a family's net."""
    return [f"model=cifar10_{family}_210k", *TRAINING]


def measure_hybrid() -> dict[str, Any]:
    """Measure the base hybrid at 224 px, in torch and exported.

    Returns:
        `images_per_second`, its `ratio` to float32 and the size in `mb`, by name.
    """
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
    ratios = {name: [a / b for a, b in zip(times["torch fp32"], values, strict=True)] for name, values in times.items()}
    return {
        name: {
            "images_per_second": BATCH / statistics.median(values),
            "ratio": statistics.median(ratios[name]),
            "mb": sizes.get(name),
        }
        for name, values in times.items()
    }


def write_hybrid(results: dict[str, Any]) -> None:
    """Write the table of the base hybrid."""
    rows = [["hybrid_base, 3×224×224, batch 32", "images/s", "", "MB"], ["---", "---:", "---:", "---:"]]
    for name, result in results.items():
        size = f"{result['mb']:.1f}" if result["mb"] else "-"
        rows.append([name, f"{result['images_per_second']:.0f}", f"{result['ratio']:.1f}×", size])
    write_table("hybrid", rows)


def main() -> None:
    """Measure all nets, and print or write the tables; fail if a static int8 model loses too much accuracy."""
    if sys.argv[1:] == ["--table"]:
        write_table("quantization", table_of(measured()))
        return
    families = chosen(FAMILIES)
    results = {}
    for family in families:
        overrides = training_of(family)
        results[family] = kept("quantization", " ".join(overrides), partial(measure, overrides))
    if sys.argv[1:]:
        print(format_table(table_of(results)))
    else:
        write_table("quantization", table_of(results))
        write_hybrid(kept("quantization", "hybrid_base", measure_hybrid))
    losses = {name: 100 * (one["float32"]["accuracy"] - one["static"]["accuracy"]) for name, one in results.items()}
    if worse := [f"{name} {loss:.2f}" for name, loss in losses.items() if loss > MAX_LOSS]:
        sys.exit(f"Static int8 loses more than {MAX_LOSS} points of accuracy: {', '.join(worse)}.")


if __name__ == "__main__":
    main()
