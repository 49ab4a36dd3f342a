"""What kills cost a sweep: one that is killed with all its processes at random moments, beside one left in peace.

    python benchmarks/sweep_kills.py [jobs] [kills]

After the last resume every job must be there once, none that had finished may have been trained again, and every
job's figures and weights must be those of the sweep that was left in peace.
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
    """Start the sweep, or go on with it."""
    seeds = f"seed=range({jobs // 2})"
    command = [sys.executable, "src/train.py", "-m", *SMALL, MODELS, seeds, "hydra.sweeper.n_jobs=2"]
    command.append(f"hydra.sweep.dir={folder}")
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def family(pid: int) -> set[int]:
    """A process and all that it has started, which may have sessions of their own."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it has ended meanwhile
            continue
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def statuses(folder: Path) -> dict[int, dict[str, Any]]:
    """How each job stands."""
    return {int(path.parent.name): json.loads(path.read_text()) for path in folder.glob("*/status.json")}


def finished(folder: Path) -> dict[int, dict[str, Any]]:
    """The jobs that have finished."""
    return {number: facts for number, facts in statuses(folder).items() if facts["status"] == "finished"}


def outcome(folder: Path) -> dict[tuple[str, ...], Any]:
    """The figures and weights of each job, but for times, by the overrides that it is known by."""
    import torch

    found = {}
    for job in folder.glob("*/job.json"):
        metrics = json.loads((job.parent / "metrics.json").read_text())
        weights = torch.load(job.parent / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        plain = {name: value for name, value in metrics.items() if "second" not in name}
        key = tuple(json.loads(job.read_text())["overrides"])
        assert key not in found, f"{key} is there twice"
        found[key] = plain, {name: value.tolist() for name, value in weights.items()}
    return found


def kill_and_resume(folder: Path, jobs: int, kills: int, generator: random.Random) -> tuple[int, int]:
    """Run a sweep that is killed now and then; return the kills, and how many jobs were running at them."""
    interrupted = survived = 0
    done: dict[int, dict[str, Any]] = {}  # what had finished before: it must not be touched again
    for number in range(kills):
        process = sweep(folder, jobs)
        target = (number + 1) * jobs // (kills + 1)
        while process.poll() is None and len(finished(folder)) < target:
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 2))
        if process.poll() is not None:
            break
        for pid in family(process.pid):
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
    peaceful = sweep(folder / "whole", jobs)
    assert peaceful.wait() == 0
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
    print(
        f"each of the {jobs} jobs is there once; {attempts} starts in all; figures and weights are equal in all {jobs}"
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
