"""Write the table of models in docs/models.md: family, data, parameters, MACs, and train images/s on this machine.

    python benchmarks/models.py            # about three minutes; prints the table and writes it into docs/models.md

A train step is forward, loss, backward and fused AdamW at batch 128 (16 at 224 px) on noise, as contiguous float32: the
median of 5 blocks of at least 0.3 s each.
"""

import math
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hydra
import torch

from benchmarks.readme import write_table
from src.config.paths import CONFIGS
from src.models.counting import count_macs, count_parameters
from src.models.example_inputs import example_inputs
from src.models.task import Task
from src.run.instantiate import instantiate

SKIPPED = ("timm", "simple_mlp_256_128")  # any net of timm; the same net as simple_mlp


def measure(name: str) -> list[str]:
    """Measure a model: its net, name, data, parameters, MACs and speed."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", [f"model={name}"])
    task = instantiate(cfg.model)
    net, shape = task.net, cfg.model.input_shape
    macs = count_macs(net, example_inputs(1, shape))
    speed = images_per_second(task.train(), batch=16 if math.prod(shape) >= 224**2 else 128)
    family = cfg.model.net._target_.rpartition(".")[2]
    data = cfg.data._target_.rpartition(".")[2].removesuffix("DataModule")
    return [family, f"`{name}`", data, f"{count_parameters(task):,}", f"{macs / 1e6:,.1f} M", f"{speed:,.0f}"]


def images_per_second(task: Task, batch: int) -> float:
    """Median speed of a task's train step on noise, without its metrics."""
    *inputs, labels = task.example_batch(batch)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-6, fused=True)
    speeds = []
    for block in range(6):
        start, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - start < 0.3:
            outputs = task.named_outputs(*inputs)
            loss = task.total_loss(task.losses(outputs, task.targets([*inputs, labels])))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        if block:  # the first warms up
            speeds.append(steps * batch / (time.perf_counter() - start))
    return statistics.median(speeds)


def main() -> None:
    """Print the table and write it into docs/models.md."""
    names = sorted(path.stem for path in CONFIGS.glob("model/*.yaml") if path.stem not in SKIPPED)
    rows = [["net", "name", "data", "parameters", "MACs", "train images/s"]]
    rows.append(["---", "---", "---", "---:", "---:", "---:"])
    rows += sorted(measure(name) for name in names)
    write_table("models", rows)


if __name__ == "__main__":
    main()
