"""Test that a sweep survives kills: compare one killed with all its processes at random times with one left running.

    python benchmarks/sweep_kills.py [jobs] [kills]

After the last resume every job must exist once, no finished job may have been trained again, and every job's metrics
and weights must equal those of the sweep that was not killed.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["data=mnist_5k", "trainer.max_epochs=3", "trainer.log_every_n_steps=10", "callbacks.image_report=null"]
MODELS = "model=mnist_sdn_8k,mnist_cnn_8k"


def sweep(folder: Path, jobs: int) -> "subprocess.Popen[bytes]":
    """Start or resume the sweep."""
    seeds = f"seed=range({jobs // 2})"
    command = [sys.executable, "src/train.py", "-m", *SMALL, MODELS, seeds, "hydra.sweeper.n_jobs=2"]
    command.append(f"hydra.sweep.dir={folder}")
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def process_tree(pid: int) -> set[int]:
    """Return a process and all its descendants, which may have sessions of their own."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it has ended meanwhile
            continue
    tree = {pid}
    while children := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= children
    return tree


def statuses(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the status of each job."""
    return {int(path.parent.name): json.loads(path.read_text()) for path in folder.glob("*/status.json")}


def finished(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the jobs that have finished."""
    return {number: facts for number, facts in statuses(folder).items() if facts["status"] == "finished"}


def outcome(folder: Path) -> dict[tuple[str, ...], Any]:
    """Return the metrics, except times, and the weights of each job, by its overrides."""
    import torch

    outcomes = {}
    for job in folder.glob("*/job.json"):
        metrics = json.loads((job.parent / "metrics.json").read_text())
        weights = torch.load(job.parent / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        plain = {name: value for name, value in metrics.items() if "second" not in name}
        key = tuple(json.loads(job.read_text())["overrides"])
        assert key not in outcomes, f"{key} exists twice"
        outcomes[key] = plain, {name: value.tolist() for name, value in weights.items()}
    return outcomes


def kill_and_resume(folder: Path, jobs: int, kills: int, generator: random.Random) -> tuple[int, int]:
    """Run a sweep that is killed several times; return the number of kills, and of the jobs that were running."""
    interrupted = survived = 0
    done: dict[int, dict[str, Any]] = {}  # jobs that had finished earlier: they must not be run again
    for number in range(kills):
        process = sweep(folder, jobs)
        target = (number + 1) * jobs // (kills + 1)
        while process.poll() is None and len(finished(folder)) < target:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 2))
        if process.poll() is not None:
            break
        for pid in process_tree(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        survived += 1
        interrupted += sum(facts["status"] == "running" for facts in statuses(folder).values())
        assert done.items() <= finished(folder).items(), "a job that had finished was run again"
        done = finished(folder)
    assert sweep(folder, jobs).wait() == 0, "the last resume failed"
    assert done.items() <= finished(folder).items(), "a job that had finished was run again"
    return survived, interrupted


def main(jobs: int = 40, kills: int = 5) -> None:
    """Run both and compare."""
    folder = Path(tempfile.mkdtemp())
    seed = random.SystemRandom().randrange(2**32)
    assert sweep(folder / "whole", jobs).wait() == 0
    survived, interrupted = kill_and_resume(folder / "parts", jobs, kills, random.Random(seed))
    whole, parts = outcome(folder / "whole"), outcome(folder / "parts")
    numbers = sorted(int(path.parent.name) for path in (folder / "parts").glob("*/job.json"))
    assert numbers == list(range(jobs)), f"the jobs are {numbers}"
    different = [key for key, value in whole.items() if parts[key] != value]
    assert parts.keys() == whole.keys() and not different, f"these jobs differ: {different}"
    attempts = sum(facts["attempts"] for facts in statuses(folder / "parts").values())
    print(
        f"{survived} kills of a sweep of {jobs} jobs, {interrupted} of which were running (seed of the moments {seed})"
    )
    print(f"each of the {jobs} jobs exists once; {attempts} starts in all; metrics and weights are equal in all {jobs}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
