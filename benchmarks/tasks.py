"""Measure the scores of the nets of every task: train each on real data without a download, export it to int8, print a
table.

    python benchmarks/tasks.py               # all
    python benchmarks/tasks.py scenes_unet   # only the jobs whose names contain a word

Results are kept in benchmarks/results/tasks.json by their command, and not measured again. Runs that take less than
three minutes are repeated with three seeds; their median and range are printed. Needs the extras [demo], [deploy] and
[series], and Fashion-MNIST.

The training settings of the forecast nets, and how far ahead sunspots are forecast, were chosen by the MASE relative to
the seasonal-naive forecast's, as a mean over three blocks before the test: of 50 years for sunspots (1809 to 1958), of
60 months for carbon dioxide (1982 to 1996). Each block was preceded by one of the same length, for choosing the best
epoch, and that one by the training steps. A whole cycle of sunspots ahead, no setting was better than the naive
forecast (0.99 to 1.02 times its error); four years ahead, the chosen nets are (0.90 and 0.94 times). The test scores of
other settings were known from earlier benchmarks.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.kept_results import kept
from benchmarks.quantization import best_of, train
from benchmarks.readme import format_table
from src.deploy.exporting import split_loaders
from src.deploy.quantizer import Quantizer
from src.deploy.speed import compare_speeds, weights_size
from src.predictor import input_shape
from src.system.json_files import read_json

TUNED = ["callbacks=[default,cpu_autotune]", "callbacks.cpu_tuning.precision=tune"]
FASHION = ["data=fashion_mnist", "data.channels=3", "data.image_size=32"]
AN_EPOCH = [*FASHION, *TUNED, "trainer.max_epochs=1"]
SECONDS = 1.0  # duration of each speed measurement
# by name: the overrides, the metrics to show, and the number of seeds
JOBS: dict[str, tuple[list[str], tuple[str, ...], int]] = {
    "scenes_unet": (["experiment=scenes_unet"], ("miou", "dice", "acc"), 1),
    "autoencoder": (["experiment=cifar10_autoencoder_small_batch", *AN_EPOCH], ("psnr", "ssim"), 1),
    "autoencoder_documented": (["experiment=cifar10_autoencoder", *AN_EPOCH], ("psnr", "ssim"), 1),
    "code_of_32": (
        ["model=mnist_autoencoder_58k", "data=mnist_5k", "data.batch_size=16", "trainer.max_epochs=30"],
        ("psnr", "ssim"),
        3,
    ),
    "anomaly": (["experiment=mnist_anomaly", "data=mnist_5k", "trainer.max_epochs=20"], ("auroc",), 3),
    "rows_lstm": (
        ["model=rows_lstm_64k", "data=mnist_5k_rows", "data.batch_size=64", "trainer.max_epochs=20"],
        ("acc",),
        3,
    ),
    "fashion_rows_lstm": (["model=rows_lstm_64k", "data=fashion_mnist_rows"], ("acc",), 1),
    "sunspots_lstm": (["model=sunspots_lstm_6k"], ("mase", "naive_mase"), 3),
    "sunspots_tcn": (["model=sunspots_tcn_9k"], ("mase", "naive_mase"), 3),
    "co2_lstm": (["model=co2_lstm_6k"], ("mase", "naive_mase"), 3),
    "co2_tcn": (["model=co2_tcn_9k"], ("mase", "naive_mase"), 3),
}


def measure(overrides: list[str]) -> dict[str, Any]:
    """Train and test a net, then quantise it.

    Returns:
        The run's metrics, `params` and `minutes`, the name and mode of its score, the score of the int8 net (`int8`),
        its `speedup`, and the sizes of both nets in MB.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir, start = Path(folder, "run"), time.perf_counter()
        train(overrides, run_dir)
        minutes = (time.perf_counter() - start) / 60
        task, datamodule = best_of(run_dir)
        card = datamodule.input_card()
        int8 = Quantizer("static", "openvino")(task, card, split_loaders(datamodule), Path(folder, "int8"))
        speeds = compare_speeds(task.net, {"int8": int8.folder}, input_shape(card), SECONDS, compiled=False)
        return {
            "metrics": read_json(run_dir / "metrics.json"),
            "minutes": minutes,
            "score": task.score,
            "mode": task.mode,
            "int8": int8.test.value,
            "speedup": speeds["int8"]["images_per_second"] / speeds["fp32"]["images_per_second"],
            "mb": [weights_size(task.net) / 1e6, int8.size_mb],
        }


def results_of(overrides: list[str], seeds: int) -> list[dict[str, Any]]:
    """Measure a job with each seed, unless it has been measured already."""
    commands = [[*overrides, f"seed={seed}"] for seed in range(42, 42 + seeds)]
    return [kept("tasks", " ".join(command), partial(measure, command)) for command in commands]


def row_of(name: str, metrics: Sequence[str], results: list[dict[str, Any]]) -> list[str]:
    """Return the row of a job in the table: medians over its seeds."""
    tested = [
        f"{metric} {median([result['metrics'][f'test/{metric}'] for result in results]):.4g}" for metric in metrics
    ]
    losses = [change(result) for result in results]
    before, after = (median([result["mb"][index] for result in results]) for index in (0, 1))
    return [
        f"`{name}`",
        f"{results[0]['metrics']['params']:,.0f}",
        ", ".join(tested),
        spread([result["metrics"][f"test/{result['score']}"] for result in results]),
        f"{median([result['minutes'] for result in results]):.1f}",
        f"{results[0]['score']} {median(losses):+.4f}",
        f"{median([result['speedup'] for result in results]):.1f}×",
        f"{before:.2f} → {after:.2f}",
    ]


def change(result: dict[str, Any]) -> float:
    """Return the change of the score by int8."""
    return result["int8"] - result["metrics"][f"test/{result['score']}"]


def spread(values: list[float]) -> str:
    """Return the range of a score over the seeds."""
    return f"{min(values):.4g} to {max(values):.4g}" if len(values) > 1 else "one seed"


def main() -> None:
    """Measure, and print the table."""
    chosen = {name: job for name, job in JOBS.items() if not sys.argv[1:] or any(word in name for word in sys.argv[1:])}
    rows = [row_of(name, metrics, results_of(job, seeds)) for name, (job, metrics, seeds) in chosen.items()]
    head = ["job", "parameters", "test", "score over seeds", "minutes", "int8", "speed", "MB"]
    table = [head, ["---", "---:", "---", "---", "---:", "---:", "---:", "---:"], *rows]
    print(format_table(table))


if __name__ == "__main__":
    main()
