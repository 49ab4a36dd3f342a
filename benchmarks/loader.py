"""Measure the loader's share of a train step, for each family's 210k net on images of CIFAR's shape.

    python benchmarks/loader.py          # CIFAR's augmentation, data/augmentation=objects
    python benchmarks/loader.py trivial  # another augmentation

A batch with its augmentation (index, augmentation, cast, normalise) and the train step on a batch, in turn, nine
blocks each: the median of the ratios. Untuned: contiguous, float32.
"""

import statistics
import sys
from functools import partial
from itertools import chain, repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra

from src.config.paths import CONFIGS
from src.run.instantiate import instantiate
from src.speed.measure import blocks, train_step

FAMILIES = ("sdn", "mlp", "cnn", "convnext", "vit", "efficientnet", "hybrid")


def main() -> None:
    """Measure all families, and print a line for each."""
    augmentation = sys.argv[1] if len(sys.argv) > 1 else "objects"
    for family in FAMILIES:
        shape = ["data=synthetic", "data.channels=3", "data.image_size=32", "data.train_size=50000"]
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = hydra.compose("train", [f"model=cifar10_{family}_210k", *shape, f"data/augmentation={augmentation}"])
        data = instantiate(cfg.data)
        data.setup()
        batches = chain.from_iterable(repeat(data.train_dataloader()))
        step = train_step(instantiate(cfg.model), next(batches))
        times = blocks({"load": partial(next, batches), "step": step}, rounds=9, seconds=0.2)
        ratio = statistics.median(a / (a + b) for a, b in zip(times["load"], times["step"], strict=True))
        load_ms, step_ms = (1000 * statistics.median(times[name]) for name in ("load", "step"))
        print(f"cifar10_{family}_210k  batch {load_ms:.2f} ms  step {step_ms:.1f} ms  the loader's share {ratio:.1%}")


if __name__ == "__main__":
    main()
