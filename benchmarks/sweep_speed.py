"""Measure what a sweep saves: many tiny jobs in one sweep, and as calls of `src/train.py` one after another.

    python benchmarks/sweep_speed.py [jobs] [rounds]

SimpleDenseNet on mnist_5k for one epoch; the sweep runs a job on each core. Both run in turn, as whole processes.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAIN = [sys.executable, "src/train.py"]
JOB = ["data=mnist_5k", "trainer.max_epochs=1"]


def seconds(*commands: list[str]) -> float:
    """Return the wall time of processes run one after another, each of which must succeed."""
    start = time.perf_counter()
    for command in commands:
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - start


def main(jobs: int = 24, rounds: int = 3) -> None:
    """Time both in turn and print the medians."""
    cpus = len(os.sched_getaffinity(0))
    ratios = []
    for number in range(1, rounds + 1):
        folder = tempfile.mkdtemp()
        logs = f"paths.log_dir={folder}"
        sweep = seconds([*TRAIN, "-m", *JOB, logs, f"seed=range({jobs})", f"hydra.sweeper.n_jobs={cpus}"])
        calls = seconds(*([*TRAIN, *JOB, logs, f"seed={seed}"] for seed in range(jobs)))
        count = len(list(Path(folder).rglob("metrics.json")))
        assert count == 2 * jobs, f"{count} runs have metrics, not {2 * jobs}"
        shutil.rmtree(folder)
        ratios.append(calls / sweep)
        print(f"round {number}: {jobs} jobs in a sweep {sweep:.1f} s, in single calls {calls:.1f} s: {ratios[-1]:.1f}x")
    print(f"the sweep is {statistics.median(ratios):.1f} times as fast (median of {rounds}, {cpus} cores)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
