"""What techniques of training bring each family of nets on Fashion-MNIST, and what the recipes reach.

    python benchmarks/recipes.py              # all that has not been measured yet, and the tables in docs/recipes.md
    python benchmarks/recipes.py cnn vit      # only these families and jobs; docs/ are left alone
    python benchmarks/recipes.py --tables     # only the tables, of what has been measured

Every technique is compared with `recipe=plain` in runs of the same few epochs, by the accuracy on the validation
images; the test images are not looked at. What a recipe reaches is measured over several seeds, by the accuracy on the
test images, once. Results are kept in benchmarks/results/recipes.json by the command that gave them. Families, and jobs
of an hour, train two at a time, with one thread each; other jobs one by one, with all cores. Needs the extras [demo]
and [timm], and Fashion-MNIST.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.kept_results import kept, known_results
from benchmarks.quantization import train
from benchmarks.readme import write_table
from src.system.durations import format_duration
from src.system.json_files import read_json

ONE_THREAD = ["callbacks.cpu_tuning.threads=1", "callbacks.image_report=null"]
ONE_THREAD += ["callbacks.cpu_tuning.memory_format=channels_last"]
RUNNING = ["callbacks=[default,cpu_autotune]", *ONE_THREAD]
GREY = ["data=fashion_mnist", "data/augmentation=objects"]
RGB = [*GREY, "data.image_size=32", "data.channels=3"]  # what these nets have their number of parameters for
# by family: net and data of its runs, and their number of epochs, which take some minutes
FAMILIES: dict[str, tuple[list[str], int]] = {
    "vit": (["model=mnist_vit_210k", *GREY], 2),
    "cnn": (["model=cifar10_cnn_210k", *RGB], 6),
    "convnext": (["model=cifar10_convnext_210k", *RGB], 4),
    "resnet": (["model=mnist_resnet_210k", *GREY], 2),
    "airbench": (["model=mnist_airbench_210k", *GREY], 4),
    "mlp": (["model=mnist_mlp_210k", *GREY], 10),
    "sdn": (["model=mnist_sdn_210k", *GREY], 10),
    "hybrid": (["model=mnist_hybrid_210k", *GREY], 2),
    "efficientnet": (["model=mnist_efficientnet_210k", *GREY], 2),
}
PLAIN = "plain"
TECHNIQUES: dict[str, list[str]] = {
    PLAIN: [],
    "rate 0.003": ["model.optimizer.lr=0.003"],
    "rate 0.006": ["model.optimizer.lr=0.006"],
    "rate 0.012": ["model.optimizer.lr=0.012"],
    "linear schedule": ["model/scheduler=linear"],
    "label smoothing 0.1": ["model.criterion.label_smoothing=0.1"],
    "weight decay 0.1": ["model.optimizer.weight_decay=0.1"],
    "Muon": ["model/optimizer=muon"],
    "EMA": ["callbacks=[default,cpu_autotune,ema]", "callbacks.average_weights.decay=0.99"],
    "batches of 64": ["data.batch_size=64"],
    "mixup": ["model/mixing=mixup"],
    "CutMix": ["model/mixing=cutmix"],
    "TrivialAugment": ["data/augmentation=trivial"],
    "no augmentation": ["data/augmentation=none"],
}
SEED = 1
# by family: an experiment with its recipe, which is compared with recipe=plain by validation over SEEDS
PROOFS: dict[str, tuple[str, str]] = {"dense": ("fashion_mnist_dense", "dense")}
SEEDS = (1, 2, 3)
T_95 = 4.303  # Student's t of two degrees of freedom: half the width of a 95 % interval, in standard errors


class Job(NamedTuple):
    """Runs of one command with several seeds."""

    command: list[str]
    seeds: int
    one_thread: bool = False  # two runs at a time


JOBS: dict[str, Job] = {
    "quickstart": Job(["experiment=quickstart"], 3),
    "digits": Job(["experiment=digits_60s"], 3),
    "fast": Job(["experiment=fashion_mnist_fast"], 5),
    **{size: Job([f"experiment=fashion_mnist_{size}"], 3, one_thread=True) for size in ("64k", "210k", "1m")},
    "dense": Job(["experiment=fashion_mnist_dense"], 3),
    **{
        f"{family}-20m": Job([f"experiment=fashion_mnist_{family}"], 3, one_thread=True)
        for family in ("cnn", "convnext", "efficientnet", "hybrid", "vit", "mlp")
    },
}
# what was tried for the job "fast", all of about the same cost
SEARCHED = "fast"
START = {"trainer.max_epochs": "20", "trainer.check_val_every_n_epoch": "1", "data.sizes": "null"}
GROWING = ["trainer.max_epochs=27", "data.sizes=[20,28]"]
SEARCH: dict[str, list[str]] = {
    "20 epochs": [],
    "20 epochs, erasing": ["data.augmentation.erasing=0.25"],
    "20 epochs, CutMix": ["model/mixing=cutmix", "model.mixing.probability=0.5"],
    "20 epochs, Muon": ["model/optimizer=muon", "model.optimizer.lr=0.01"],
    "27 epochs, half at 20 px": GROWING,
    "27 epochs, half at 20 px, rate 0.01": [*GROWING, "model.optimizer.lr=0.01"],
    "27 epochs, half at 20 px, SGD": [
        *GROWING,
        "model/optimizer=sgd",
        "model.optimizer.lr=0.2",
        "model.optimizer.weight_decay=0.0005",
    ],
    "27 epochs, half at 20 px, batches of 128, rate 0.004": [
        *GROWING,
        "data.batch_size=128",
        "model.optimizer.lr=0.004",
    ],
    "16 epochs, half at 20 px, the 210k net": [
        "trainer.max_epochs=16",
        "data.sizes=[20,28]",
        "model=mnist_airbench_210k",
    ],
    "31 epochs, a quarter each at 16, 20, 24 and 28 px": ["trainer.max_epochs=31", "data.sizes=[16,20,24,28]"],
}
SHORT_COLUMNS = (0, 1, 3, 5)  # of the table of jobs, in the README: command, parameters, training, test accuracy
ALL = list(dict.fromkeys([*FAMILIES, *PROOFS, *JOBS]))
KEPT = (
    "params",
    "macs",
    "epochs",
    "epoch_seconds",
    "train_seconds",
    "train/acc",
    "val/acc",
    "val/acc_best",
    "test/acc",
)


def measure(overrides: list[str]) -> dict[str, Any]:
    """Train a net; return the metrics of the run that the tables need."""
    with tempfile.TemporaryDirectory() as folder:
        train(overrides, Path(folder, "run"))
        metrics = read_json(Path(folder, "run", "metrics.json"))
    return {name: metrics[name] for name in KEPT if name in metrics}


def short_run(family: str, technique: str) -> list[str]:
    """Return the command that trains a family's net with one technique."""
    net, epochs = FAMILIES[family]
    command = [*net, *RUNNING, "recipe=plain", f"trainer.max_epochs={epochs}", "test=false", f"seed={SEED}"]
    return [*command, *TECHNIQUES[technique]]


def proof_runs(family: str) -> list[list[list[str]]]:
    """Return the commands that train a family's experiment: with the plain recipe, and with its own, by seeds."""
    experiment, own = PROOFS[family]
    command = [f"experiment={experiment}", *ONE_THREAD]
    return [[[*command, f"recipe={recipe}", "test=false", f"seed={seed}"] for seed in SEEDS] for recipe in (PLAIN, own)]


def proof_row(family: str) -> list[str] | None:
    """Return what a family's recipe gains over the plain one, with its 95 % interval; None before all have been run."""
    experiment, own = PROOFS[family]
    plain, better = ([100 * one for one in values(runs, "val/acc")] for runs in proof_runs(family))
    if len(plain) < len(SEEDS) or len(better) < len(SEEDS):
        return None
    means = [f"{mean(plain):.2f} %", f"{mean(better):.2f} %", format_gain(plain, better)]
    return [f"`experiment={experiment}`", f"`{own}`", *means]


def format_gain(before: list[float], after: list[float]) -> str:
    """Return the mean gain in points over the same seeds, with its 95 % interval."""
    gains = [new - old for old, new in zip(before, after, strict=True)]
    return f"{mean(gains):+.2f} ± {T_95 * stdev(gains) / len(gains) ** 0.5:.2f}"


def search_run(name: str) -> list[str]:
    """Return the command that tries something for a job."""
    settings = START | dict(word.split("=", 1) for word in SEARCH[name])
    changes = [f"{key}={value}" for key, value in settings.items()]
    return [*JOBS[SEARCHED].command, *ONE_THREAD, *changes, "test=false", f"seed={SEED}"]


def job_runs(job: Job) -> list[list[str]]:
    """Return the commands of a job, one for each seed."""
    command = [*job.command, *ONE_THREAD] if job.one_thread else job.command
    return [[*command, f"seed={seed}"] for seed in range(42, 42 + job.seeds)]


def measure_all(commands: Iterable[list[str]], at_a_time: int, file: str = "recipes") -> None:
    """Run the commands that have no result in that file of results yet."""
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(lambda command: kept(file, " ".join(command), partial(measure, command)), commands))


def values(commands: Sequence[list[str]], metric: str, file: str = "recipes") -> list[float]:
    """Return a metric of those commands that have a result in that file."""
    known = known_results(file)
    return [known[key][metric] for command in commands if (key := " ".join(command)) in known]


def cell(family: str, technique: str) -> str:
    """Return the accuracy of the plain recipe in percent, or what a technique adds to it in points."""
    measured, plain = (values([short_run(family, name)], "val/acc") for name in (technique, PLAIN))
    if not measured or not plain:
        return "not run"
    return f"{100 * plain[0]:.2f} %" if technique == PLAIN else f"{100 * (measured[0] - plain[0]):+.2f}"


def job_row(job: Job) -> list[str] | None:
    """Return what a job costs and reaches, of the seeds that have been run; None without any."""
    runs = job_runs(job)
    accuracies = [100 * value for value in values(runs, "test/acc")]
    if not accuracies:
        return None
    params, epochs, macs = (values(runs, name)[0] for name in ("params", "epochs", "macs"))
    training = format_duration(median(values(runs, "train_seconds"))) + (", one thread" if job.one_thread else "")
    spread = f" ± {stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    seeds = f"{len(accuracies)} of {job.seeds}" if len(accuracies) < job.seeds else f"{job.seeds}"
    counts = [f"{params:,.0f}", f"{epochs:.0f}", training, f"{macs / 1e6:.1f} M"]
    return [f"`{' '.join(job.command)}`", *counts, f"{mean(accuracies):.2f}{spread} % ({seeds} seeds)"]


def write_tables() -> None:
    """Write the tables of what has been measured to docs/recipes.md."""
    known = known_results("recipes")
    families = [family for family in FAMILIES if " ".join(short_run(family, PLAIN)) in known]
    names = [name for name in TECHNIQUES if any(" ".join(short_run(family, name)) in known for family in families)]
    rows = [["", *families], ["---", *["---:"] * len(families)]]
    rows.append(["epochs", *(str(FAMILIES[family][1]) for family in families)])
    rows += [[name, *(cell(family, name) for family in families)] for name in names]
    missing = [name for name in (*FAMILIES, *TECHNIQUES) if name not in (*families, *names)]
    write_table("the techniques", rows, f"Not run yet: {', '.join(missing)}." if missing else "")
    rows = [["experiment", "recipe", "with `recipe=plain`", "with its own", "gain"], ["---", "---", *["---:"] * 3]]
    write_table("the recipes", rows + [row for family in PROOFS if (row := proof_row(family))])
    rows = [["tried", "training, one thread", "validation accuracy"], ["---", "---:", "---:"]]
    for name in SEARCH:
        if facts := known.get(" ".join(search_run(name))):
            rows.append([name, format_duration(facts["train_seconds"]), f"{100 * facts['val/acc']:.2f} %"])
    write_table("the search", rows)
    rows = [["command", "parameters", "epochs", "training", "MACs an image", "test accuracy"], ["---", *["---:"] * 5]]
    rows += [row for job in JOBS.values() if (row := job_row(job))]
    write_table("what the recipes reach", rows)
    write_table("what training reaches", [[row[column] for column in SHORT_COLUMNS] for row in rows])


def main() -> None:
    """Measure what is missing, then write the tables."""
    words = [word for word in sys.argv[1:] if word != "--tables"]
    if unknown := [word for word in words if word not in ALL]:
        sys.exit(f"{unknown[0]} is neither a family nor a job: choose from {', '.join(ALL)}.")
    if "--tables" not in sys.argv:
        chosen = words or ALL
        for name in TECHNIQUES:
            measure_all([short_run(family, name) for family in FAMILIES if family in chosen], at_a_time=2)
        for family in [family for family in PROOFS if family in chosen]:
            for runs in proof_runs(family):
                measure_all(runs, at_a_time=2)
        if SEARCHED in chosen:
            measure_all([search_run(name) for name in SEARCH], at_a_time=2)
        jobs = [job for name, job in JOBS.items() if name in chosen]
        for at_a_time, one_thread in ((1, False), (2, True)):
            commands = [command for job in jobs if job.one_thread is one_thread for command in job_runs(job)]
            measure_all(commands, at_a_time)
    if not words:
        write_tables()


if __name__ == "__main__":
    main()
