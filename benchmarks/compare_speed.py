"""Measure the cost of comparing many runs: wall and CPU seconds, and the size of the page.

    python benchmarks/compare_speed.py [runs] [rounds]

The runs are the finished jobs of a synthetic sweep: 4 nets, 50 learning rates, seeds; each with the files that a real
job writes, including curves of 30 epochs and 24 pictures of mistakes.
"""

import base64
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MODELS = {"mnist_sdn_8k": 8_000, "simple_mlp": 50_000, "mnist_cnn_68k": 67_978, "mnist_vit_210k": 209_866}
PICTURE = base64.b64encode(os.urandom(800)).decode()


def make_sweep(folder: Path, runs: int) -> None:
    """Write the folders of the jobs of a sweep."""
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = TensorBoardLogger(folder / "curves", name="", version="")
    for step in range(300):
        logger.log_metrics({"train/loss_step": 1 / (step + 1)}, step=step)
        if step % 10 == 9:
            values = {"train/loss": 3 / step, "val/loss": 4 / step, "val/acc": 1 - 1 / step, "epoch": step // 10}
            logger.log_metrics({**values, **{f"val/{number}": 0.5 for number in range(8)}}, step=step)
    logger.finalize("success")
    mistake = {"label": "3", "predicted": "5", "confidence": 0.9, "png": PICTURE}
    head = {"classes": list("0123456789"), "counts": [[9] * 10] * 10, "mistakes": [mistake] * 24}
    for number in range(runs):
        run = folder / str(number)
        model, rate = list(MODELS)[number % 4], f"{0.0001 * (1 + number // 4 % 50):.4f}"
        overrides = [f"model={model}", f"model.optimizer.lr={rate}", f"seed={number // 200}"]
        (run / ".hydra").mkdir(parents=True)
        (run / ".hydra" / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides))
        (run / ".hydra" / "config.yaml").write_text("a: 1\n" * 200)
        accuracy = 0.9 + (number * 7919 % 1000) / 1e4
        files = {
            "run.json": {
                "seed": number // 200,
                "choices": {"model": model, "data": "mnist"},
                "command": "src/train.py",
                "started": f"2026-01-01T00:00:{number % 60:02}",
                "data": {"test": "0" * 64},
                "packages": {"torch": "2"},
                "cpu": "A CPU",
                "threads": 2,
            },
            "metrics.json": {
                **{"test/acc": accuracy, "test/loss": 0.1, "val/acc": 0.9, "val/acc_best": 0.9, "val/loss": 0.1},
                **{"params": MODELS[model], "macs": 100 * MODELS[model], "epochs": 30, "train_seconds": 60.0},
                **{"epoch_seconds": 2.0, "images_per_second": 3e4},
            },
            "job.json": {"number": number, "overrides": overrides},
            "status.json": {"status": "finished", "epoch": 30, "value": accuracy},
            "test_report.json": {"heads": {"test": head}},
        }
        for name, content in files.items():
            (run / name).write_text(json.dumps(content, indent=2))
        shutil.copytree(folder / "curves", run / "tensorboard")
    shutil.rmtree(folder / "curves")


def main(runs: int = 1000, rounds: int = 3) -> None:
    """Make the sweep once, compare it several times, and print the cost of each round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_sweep(folder / "sweep", runs)
        command = [sys.executable, "src/compare.py", f"runs=[{folder}/sweep]", f"paths.log_dir={folder}"]
        for number in range(1, rounds + 1):
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*command, f"folder={folder}/page"], cwd=ROOT, capture_output=True, check=True)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            size = (folder / "page" / "compare.html").stat().st_size / 1e6
            print(f"round {number}: {runs} runs in {wall:.1f} s, {cpu:.1f} s of CPU; a page of {size:.1f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
