"""Measure the gain from tuning: each family's 210k net, untuned and with the settings chosen by
`callbacks=cpu_autotune`.

    python benchmarks/tuning.py                         # all families, about four minutes; writes docs/speed.md
    python benchmarks/tuning.py cifar10_cnn_210k        # only these

Each net is trained for one batch with tuning of the precision, so that the callback measures and chooses. Then the real
train step is timed (forward, loss, metrics, backward, fused AdamW; on noise, at the data's own batch size), untuned and
tuned in turn, nine blocks each: the medians of the speeds and of the blocks' ratios are printed.
"""

import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hydra
import torch

import src.train
from benchmarks.readme import write_table
from src.config.paths import CONFIGS
from src.run.instantiate import instantiate
from src.speed.cpu_tuning import CpuTuning
from src.speed.measure import MEMORY_FORMATS, autocast, seconds_per_step, train_step
from src.speed.tuning import Settings

FAMILIES = ("sdn", "mlp", "cnn", "convnext", "vit", "efficientnet", "hybrid")
BLOCKS, SECONDS = 9, 0.7


def measure(name: str) -> list[str]:
    """Return a row of the table."""
    options = ["logger=none", "callbacks=[cpu_autotune]", "callbacks.cpu_tuning.precision=tune", "trainer=cpu"]
    options += ["data=synthetic", "data.val_size=128", "data.train_size=512", "test=false"]
    options += ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "+trainer.num_sanity_val_steps=0"]
    with tempfile.TemporaryDirectory() as folder, hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        own = hydra.compose("train", [f"model={name}"]).data
        shape = [f"data.{key}={own[key]}" for key in ("channels", "image_size", "num_classes", "batch_size")]
        cfg = hydra.compose("train", [f"model={name}", *options, *shape, f"paths.output_dir={folder}"])
        _, objects = src.train.train(cfg)
    chosen = next(one for one in objects["callbacks"] if isinstance(one, CpuTuning)).chosen
    assert chosen is not None
    default = Settings(torch.get_num_threads(), "contiguous", "32-true")
    speeds: dict[Settings, list[float]] = {default: [], chosen: []}
    steps = {}
    for settings in speeds:
        model = instantiate(cfg.model)
        model.net.to(memory_format=MEMORY_FORMATS[settings.memory_format])
        steps[settings] = train_step(model, model.example_batch(cfg.data.batch_size), autocast(settings.precision))
    for _ in range(BLOCKS):
        for settings, step in steps.items():
            torch.set_num_threads(settings.threads)
            step()
            speeds[settings].append(cfg.data.batch_size / seconds_per_step(step, SECONDS))
    torch.set_num_threads(default.threads)
    ratio = statistics.median(tuned / untuned for tuned, untuned in zip(speeds[chosen], speeds[default], strict=True))
    medians = [f"{statistics.median(speeds[settings]):,.0f}" for settings in (default, chosen)]
    print(f"{name:28s} {medians[0]:>8s} -> {medians[1]:>8s} images/s  {ratio:.2f}x  {chosen}", flush=True)
    return [f"`{name}`", str(chosen), *medians, f"{ratio:.2f}×"]


def main() -> None:
    """Measure all nets, print the table and write it to docs/speed.md."""
    names = sys.argv[1:] or [f"cifar10_{family}_210k" for family in FAMILIES]
    rows = [measure(name) for name in names]
    if sys.argv[1:]:
        return
    head = ["net", "chosen", "untuned images/s", "tuned", "gain"]
    write_table("tuning", [head, ["---", "---", "---:", "---:", "---:"], *rows])


if __name__ == "__main__":
    main()
