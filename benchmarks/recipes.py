"""What techniques of training bring each family of nets on Fashion-MNIST, and what the families' own recipes reach.

    python benchmarks/recipes.py                # all that has not been measured yet, and the tables in docs/recipes.md
    python benchmarks/recipes.py cnn vit        # only these families; docs/ are left alone
    python benchmarks/recipes.py --reached      # only what the recipes reach
    python benchmarks/recipes.py --tables       # only the tables, of what has been measured

Every technique is compared with `recipe=plain` in short runs of the same length, by the accuracy on the validation
images; the test images are not looked at. What a family's recipe reaches is measured in long runs with three seeds, by
the accuracy on the test images. Results are kept in benchmarks/results/recipes.json by the command that gave them. Two
runs at a time, with one thread each. Needs the extra [timm] and Fashion-MNIST.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.kept_results import kept, known_results
from benchmarks.quantization import train
from benchmarks.readme import write_table
from src.system.json_files import read_json

DATA = ["data=fashion_mnist", "data.image_size=32", "data.channels=3", "data/augmentation=objects"]
RUNNING = ["callbacks=[default,cpu_autotune]", "callbacks.cpu_tuning.threads=1", "callbacks.image_report=null"]
RUNNING += ["callbacks.cpu_tuning.memory_format=channels_last"]
# by family: its net, epochs of a short run, and of a long one
FAMILIES: dict[str, tuple[str, int, int]] = {
    "cnn": ("cifar10_cnn_210k", 10, 100),
    "resnet": ("cifar10_resnet_210k", 6, 60),
    "hybrid": ("cifar10_hybrid_210k", 6, 60),
    "efficientnet": ("cifar10_efficientnet_210k", 6, 60),
    "convnext": ("cifar10_convnext_210k", 6, 60),
    "vit": ("cifar10_vit_210k", 6, 60),
    "mlp": ("cifar10_mlp_210k", 10, 100),
    "sdn": ("cifar10_sdn_210k", 10, 100),
}
PLAIN = "plain"
TECHNIQUES: dict[str, list[str]] = {
    PLAIN: [],
    "rate 0.003": ["model.optimizer.lr=0.003"],
    "rate 0.01": ["model.optimizer.lr=0.01"],
    "weight decay 0.1": ["model.optimizer.weight_decay=0.1"],
    "SGD": ["model/optimizer=sgd"],
    "Muon": ["model/optimizer=muon"],
    "Muon, rate 0.01": ["model/optimizer=muon", "model.optimizer.lr=0.01"],
    "label smoothing 0.1": ["model.criterion.label_smoothing=0.1"],
    "EMA": ["callbacks=[default,cpu_autotune,ema]", "callbacks.average_weights.decay=0.99"],
    "mixup": ["model/mixing=mixup"],
    "CutMix": ["model/mixing=cutmix"],
    "batches of 64": ["data.batch_size=64"],
    "no augmentation": ["data/augmentation=none"],
}
SHORT_SEEDS, LONG_SEEDS = (1,), (1, 2, 3)


def measure(overrides: list[str]) -> dict[str, Any]:
    """Train a net; return the metrics of the run that the tables need."""
    with tempfile.TemporaryDirectory() as folder:
        train(overrides, Path(folder, "run"))
        metrics = read_json(Path(folder, "run", "metrics.json"))
    names = ("params", "macs", "epochs", "epoch_seconds", "train_seconds", "train/acc", "val/acc", "val/acc_best")
    return {name: metrics[name] for name in (*names, "test/acc") if name in metrics}


def short(family: str, technique: str, seed: int) -> list[str]:
    """Return the command of a short run with one technique."""
    net, epochs, _ = FAMILIES[family]
    command = [f"model={net}", *DATA, *RUNNING, "recipe=plain", f"trainer.max_epochs={epochs}", "test=false"]
    return [*command, *TECHNIQUES[technique], f"seed={seed}"]


def long(family: str, seed: int) -> list[str]:
    """Return the command of a long run with the family's own recipe."""
    net, _, epochs = FAMILIES[family]
    return [f"model={net}", *DATA, *RUNNING, f"trainer.max_epochs={epochs}", f"seed={seed}"]


def measure_all(commands: Iterable[list[str]]) -> None:
    """Run the commands that have no result yet, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda command: kept("recipes", " ".join(command), partial(measure, command)), commands):
            pass


def values(commands: Sequence[list[str]], metric: str) -> list[float]:
    """Return a metric, in percent, of the commands that have been measured."""
    known = known_results("recipes")
    return [100 * known[key][metric] for command in commands if (key := " ".join(command)) in known]


def effect(family: str, technique: str) -> str:
    """Return what a technique brings a family, in points of accuracy, with the standard error of the mean."""
    pairs = [
        (values([short(family, technique, seed)], "val/acc"), values([short(family, PLAIN, seed)], "val/acc"))
        for seed in SHORT_SEEDS
    ]
    differences = [with_it[0] - without[0] for with_it, without in pairs if with_it and without]
    if not differences:
        return "not run"
    error = f" ± {stdev(differences) / len(differences) ** 0.5:.2f}" if len(differences) > 1 else ""
    return f"{mean(differences):+.2f}{error}"


def write_tables() -> None:
    """Write the tables of what has been measured to docs/recipes.md."""
    head = ["family", *FAMILIES]
    rows = [head, ["---", *["---:"] * len(FAMILIES)]]
    plain = [values([short(family, PLAIN, seed) for seed in SHORT_SEEDS], "val/acc") for family in FAMILIES]
    rows.append([f"{PLAIN}, %", *(f"{mean(found):.2f}" if found else "not run" for found in plain)])
    rows += [[name, *(effect(family, name) for family in FAMILIES)] for name in TECHNIQUES if name != PLAIN]
    write_table("the techniques", rows)
    rows = [["net", "parameters", "epochs", "MFLOPs an image", "test accuracy, %"], ["---", *["---:"] * 4]]
    for family, (net, _, epochs) in FAMILIES.items():
        commands = [long(family, seed) for seed in LONG_SEEDS]
        if found := values(commands, "test/acc"):
            facts = known_results("recipes")[" ".join(commands[0])]
            spread = f" ± {stdev(found):.2f}" if len(found) > 1 else ", one seed"
            counts = [f"{facts['params']:,.0f}", str(epochs), f"{2 * facts['macs'] / 1e6:.0f}"]
            rows.append([f"`{net}`", *counts, f"{mean(found):.2f}{spread}"])
    write_table("what the recipes reach", rows)


def main() -> None:
    """Measure what is missing, then write the tables."""
    words = sys.argv[1:]
    families = [word for word in words if not word.startswith("--")]
    if unknown := [family for family in families if family not in FAMILIES]:
        sys.exit(f"{unknown[0]} is not a family: choose from {', '.join(FAMILIES)}.")
    chosen = families or list(FAMILIES)
    if "--tables" not in words:
        if "--reached" not in words:
            measure_all([short(one, name, seed) for seed in SHORT_SEEDS for name in TECHNIQUES for one in chosen])
        measure_all([long(family, seed) for seed in LONG_SEEDS for family in chosen])
    if not families:
        write_tables()


if __name__ == "__main__":
    main()
