"""Measure the savings of pruning: compare a study with pruned trials with one that trains all trials to the end.

    python benchmarks/sweep_pruning.py [trials] [epochs] [rounds]

hparams_search=mnist_optuna on mnist_5k, each round with another seed of the sampler. To compare the best values with
chance, the best configuration is trained with other seeds, and the spread of its values is printed.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRAIN = [sys.executable, "src/train.py", "-m", "data=mnist_5k", "callbacks.image_report=null", "hydra.sweeper.n_jobs=2"]


def sweep(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a sweep; return the statuses of its jobs."""
    command = [*TRAIN, f"hydra.sweep.dir={folder}", *arguments]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return [json.loads(path.read_text()) for path in folder.glob("*/status.json")]


def best_of(jobs: list[dict[str, Any]]) -> float:
    """Return the best value of the trials that trained to the end."""
    return max(job["value"] for job in jobs if job["status"] == "finished")


def main(trials: int = 40, epochs: int = 12, rounds: int = 3) -> None:
    """Run the studies in turn, and print their epochs and best values."""
    shares, differences, spreads = [], [], []
    for number in range(rounds):
        folder = Path(tempfile.mkdtemp())
        options = ["hparams_search=mnist_optuna", f"hydra.sweeper.n_trials={trials}", f"trainer.max_epochs={epochs}"]
        options.append(f"hydra.sweeper.sampler.seed={1000 * number}")
        whole = sweep(folder / "whole", *options, "hydra/sweeper/pruner=none")
        pruned = sweep(folder / "pruned", *options)
        assert len(whole) == len(pruned) == trials
        winner = max(
            (folder / "whole").glob("*/status.json"), key=lambda path: json.loads(path.read_text())["value"] or 0
        )
        words = json.loads((winner.parent / "job.json").read_text())["overrides"]
        words = [word for word in words if not word.startswith(("data=", "hparams_search=", "callbacks.image"))]
        again = sweep(folder / "again", *words, "optimized_metric=val/acc_best", "test=false", "seed=1,2,3,4,5")
        spent, all_epochs = (sum(job["epoch"] for job in jobs) for jobs in (pruned, whole))
        shares.append(spent / all_epochs)
        differences.append(best_of(pruned) - best_of(whole))
        spreads.append(statistics.stdev(job["value"] for job in again))
        count = sum(job["status"] == "pruned" for job in pruned)
        print(
            f"round {number + 1}: {count} of {trials} trials pruned, {spent} of {all_epochs} epochs, {shares[-1]:.0%}; "
            f"best {best_of(pruned):.4f}, unpruned {best_of(whole):.4f}; the winner over 5 seeds ± {spreads[-1]:.4f}"
        )
        shutil.rmtree(folder)
    print(
        f"median of {rounds}: {statistics.median(shares):.0%} of the epochs, best value "
        f"{statistics.median(differences):+.4f}, noise ± {statistics.median(spreads):.4f}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
