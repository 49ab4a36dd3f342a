"""Count and measure every named model, and write the tables of docs/models.md; src/choose.py reads the results.

    python benchmarks/models.py                    # count and measure whatever is missing, then write the tables
    python benchmarks/models.py mnist_cnn_68k      # only these models
    python benchmarks/models.py --counts           # only count parameters and MACs: exact on a busy machine, too
    python benchmarks/models.py --again            # repeat measurements; a few seconds per model
    python benchmarks/models.py --table            # only write the tables

Results are kept in benchmarks/results/models.json by the model's name. A train step is forward, loss, backward and
fused AdamW at batch 128 (16 for inputs as large as 3×128×128) on noise, as contiguous float32: the median of 5 blocks
of at least 0.3 s each. Latency is that of a forward pass of a single input, measured in the same way. Nets for images
are also counted at other sizes, grey and colour, if they accept them. Scores come from the results of the other
benchmarks.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import hydra
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from benchmarks.kept_results import keep, known_results
from benchmarks.readme import write_table
from src.advice.estimates import batch_size
from src.advice.measurements import read_evidence, read_models
from src.config.paths import CONFIGS
from src.models.counting import count_macs, count_parameters
from src.models.example_inputs import example_inputs, noise_inputs
from src.models.task import Task
from src.run.instantiate import instantiate
from src.run.record import environment

SKIPPED = ("timm", "simple_mlp_256_128")  # any net of timm; the same net as simple_mlp
SIZES = (32, 48, 63, 64, 96, 128, 224)  # at which nets are counted, besides their data's own; stems change at 64
TRIED = range(32, 65)  # sizes tried to find the number whose multiples a net accepts
OPTIONS = ("--counts", "--again", "--table")


def compose(name: str) -> DictConfig:
    """Compose the configuration of a model."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", [f"model={name}"])


def count(cfg: DictConfig) -> dict[str, Any]:
    """Count a model.

    Returns:
        The class of its `net`, `task` and `data`, the `shape` of an input, `params` and `macs`; for image nets also
        `multiple_of`, of which image sizes must be multiples, and `counts`: params and macs by <channels>x<size>.
    """
    task, shape = instantiate(cfg.model), list(cfg.model.input_shape)
    facts = {
        "net": cfg.model.net._target_.rpartition(".")[2],
        "task": cfg.model._target_.rpartition(".")[2],
        "data": cfg.data._target_.rpartition(".")[2].removesuffix("DataModule"),
        "shape": shape,
        "params": count_parameters(task),
        "macs": count_macs(task.net, example_inputs(1, shape)),
    }
    if len(shape) != 3:
        return facts
    accepted = [size for size in TRIED if count_at(cfg, shape[0], size)]
    sizes = [f"{channels}x{size}" for channels in (1, 3) for size in sorted({shape[1], *SIZES})]
    counts = {size: count_at(cfg, *map(int, size.split("x"))) for size in sizes}
    counts = {size: pair for size, pair in counts.items() if pair}
    return facts | {"multiple_of": math.gcd(*accepted), "counts": counts}


def count_at(cfg: DictConfig, channels: int, size: int) -> list[float] | None:
    """Count the parameters and MACs of a net built for other images; None if it does not accept them."""
    cfg.data.channels, cfg.data.image_size = channels, size
    try:
        with torch.device("meta"):  # only shapes: nothing is computed
            net = instantiate(cfg.model.net)
            return [count_parameters(net), count_macs(net, example_inputs(1, (channels, size, size)))]
    except (InstantiationException, ValueError, RuntimeError):  # raised by nets for unsupported sizes
        return None


def measure(cfg: DictConfig) -> dict[str, Any]:
    """Measure the speed of a model's train step and the latency of its net; src/export.py measures int8 nets."""
    task, shape = instantiate(cfg.model), cfg.model.input_shape
    machine = environment()
    where = f"{machine['cpu']}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32"
    return {
        "train_images_per_second": images_per_second(task.train(), batch=batch_size(shape)),
        "latency_ms": latency(task.eval(), noise_inputs(1, shape)),
        "int8_latency_ms": None,
        "measured": where,
    }


def images_per_second(task: Task, batch: int) -> float:
    """Return the median speed of a task's train step on noise, without its metrics."""
    *inputs, labels = task.example_batch(batch)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        outputs = task.named_outputs(*inputs)
        loss = task.total_loss(task.losses(outputs, task.targets([*inputs, labels])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return batch / median_seconds(step)


def latency(task: Task, inputs: torch.Tensor) -> float:
    """Return the median time of a forward pass in milliseconds."""
    with torch.inference_mode():
        return 1000 * median_seconds(lambda: task.net(inputs))


def median_seconds(step: Callable[[], Any]) -> float:
    """Return the median time of a step over 5 blocks of at least 0.3 s."""
    seconds = []
    for block in range(6):
        start, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - start < 0.3:
            step()
            steps += 1
        if block:  # the first warms up
            seconds.append((time.perf_counter() - start) / steps)
    return statistics.median(seconds)


def update(name: str, options: list[str]) -> None:
    """Count and measure a model where results are missing or the options say so."""
    known = known_results("models").get(name, {})
    unmeasured = known.get("train_images_per_second") is None or known.get("latency_ms") is None
    measuring = "--counts" not in options and (unmeasured or "--again" in options)
    if known and not measuring and "--counts" not in options:
        return
    cfg = compose(name)
    keep("models", name, {**known, **(measure(cfg) if measuring else {}), **count(cfg)})


def write() -> None:
    """Write the tables of docs/models.md."""
    rows = [["net", "name", "data", "parameters", "MACs", "train images/s", "ms for one"]]
    rows.append(["---", "---", "---", "---:", "---:", "---:", "---:"])
    for name, facts in sorted(known_results("models").items(), key=lambda item: (item[1]["net"], item[0])):
        counts = [f"{facts['params']:,}", f"{facts['macs'] / 1e6:,.1f} M"]
        for key, form in {"train_images_per_second": ",.0f", "latency_ms": ".2f"}.items():
            counts.append("not measured" if facts.get(key) is None else format(facts[key], form))
        rows.append([facts["net"], f"`{name}`", facts["data"], *counts])
    write_table("models", rows)
    rows = [["net", "name", "data", "test score", "seeds", "epochs", "int8 changes it by"]]
    rows.append(["---", "---", "---", "---:", "---:", "---:", "---:"])
    models = read_models()
    for one in sorted(read_evidence(models), key=lambda one: (models[one.model]["net"], one.model, one.data)):
        change = "not measured" if one.int8_change is None else f"{one.int8_change:+.4f}"
        facts = [f"{one.score} {one.value:.4f}", str(one.seeds), str(one.epochs or "not kept"), change]
        rows.append([models[one.model]["net"], f"`{one.model}`", f"`{one.data}`", *facts])
    write_table("what nets have reached", rows)


def main() -> None:
    """Count and measure whatever is missing, then write the tables."""
    names = sorted(path.stem for path in CONFIGS.glob("model/*.yaml") if path.stem not in SKIPPED)
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    chosen = [word for word in sys.argv[1:] if word not in options]
    if unknown := [word for word in (*options, *chosen) if word not in (*OPTIONS, *names)]:
        sys.exit(f"{unknown[0]} is neither a named model nor one of {', '.join(OPTIONS)}.")
    for name in chosen or names:
        if "--table" not in options:
            update(name, options)
    write()


if __name__ == "__main__":
    main()
