"""Measure the overhead of a sweep of many jobs: run again, extended, and with jobs that do nothing.

    python benchmarks/sweep_scale.py [jobs]

Two jobs are trained; the folders of the others are copies with different metrics, registered with the sweep as if they
had been run. Each program is timed once, as a whole process.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from omegaconf import DictConfig

from src.cli.entry_point import entry_point
from src.run.status import update_status
from src.sweeps.jobs import Sweep
from src.system.json_files import read_json, write_json

TINY = ["data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=640", "data.val_size=160"]
TINY += ["data.test_size=160", "trainer=cpu", "trainer.max_epochs=1", "callbacks.image_report=null"]
TINY += ["optimized_metric=val/acc"]
MODELS = ("mnist_sdn_8k", "mnist_cnn_8k")
COPIED = ("metrics.json", "run.json", "train.log", "test_report.json", ".hydra", "tensorboard")


@entry_point("train")
def nothing(cfg: DictConfig) -> float:
    """Do nothing, with the configuration of a job that trains."""
    return 0.0


def seconds(*command: str) -> float:
    """Return the wall time of a program that must succeed."""
    start = time.perf_counter()
    result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)
    return time.perf_counter() - start


def sweep(folder: Path, seeds: int, models: tuple[str, ...] = MODELS) -> list[str]:
    """Return the command of a sweep over models and seeds."""
    arguments = [f"model={','.join(models)}", f"seed=range({seeds})", f"hydra.sweep.dir={folder}"]
    return ["src/train.py", "-m", *TINY, *arguments]


def fill(folder: Path, seeds: int) -> None:
    """Add the jobs of the other seeds to the folder of a sweep that has trained one seed of each model."""
    known = Sweep(folder, "train", [word.partition("=")[0] for word in (*TINY, "model=", "seed=")])
    trained = known.jobs()
    generator = random.Random(0)
    for seed in range(1, seeds):
        for model in trained:
            words = [f"seed={seed}" if word == "seed=0" else word for word in model.overrides]
            (job,) = [known.add(words)]
            for name in COPIED:
                source = model.folder / name
                if source.is_dir():
                    shutil.copytree(source, job.folder / name)
                elif source.is_file():
                    shutil.copy(source, job.folder / name)
            for name in ("config.yaml", "overrides.yaml"):
                path = job.folder / ".hydra" / name
                path.write_text(path.read_text().replace("seed: 0", f"seed: {seed}").replace("seed=0", f"seed={seed}"))
            shift = generator.gauss(0, 0.01)
            figures = read_json(job.folder / "metrics.json")
            shifted = {
                name: value + shift if name.endswith(("acc", "acc_best")) else value for name, value in figures.items()
            }
            write_json(job.folder / "metrics.json", shifted)
            write_json(job.folder / "run.json", {**read_json(job.folder / "run.json"), "seed": seed})
            update_status(job.folder, **{**model.facts, "value": figures["val/acc"]})


def main(jobs: int = 1000) -> None:
    """Make the sweep, and print the time of each command."""
    folder = Path(tempfile.mkdtemp())
    seeds = jobs // len(MODELS)
    seconds(*sweep(folder / "sweep", 1))
    fill(folder / "sweep", seeds)
    started = {path: path.stat().st_mtime_ns for path in (folder / "sweep").glob("*/status.json")}
    again = seconds(*sweep(folder / "sweep", seeds))
    print(f"{len(started)} finished jobs, run again: {again:.1f} s", flush=True)
    extended = seconds(*sweep(folder / "sweep", seeds + 1, MODELS[:1]))
    print(f"extended by one, which trains for an epoch: {extended:.1f} s", flush=True)
    assert (
        started.items() <= {path: path.stat().st_mtime_ns for path in (folder / "sweep").glob("*/status.json")}.items()
    )
    few, many = (
        seconds(__file__, "-m", f"seed=range({count})", f"hydra.sweep.dir={folder}/{count}") for count in (10, 110)
    )
    print(f"a new job that does nothing: {(many - few) / 100:.3f} s", flush=True)
    compared = seconds("src/compare.py", f"runs=[{folder}/sweep]", f"folder={folder}/comparison")
    size = (folder / "comparison" / "compare.html").stat().st_size / 2**20
    print(f"compared: {compared:.1f} s, a page of {size:.1f} MiB")
    shutil.rmtree(folder)


if __name__ == "__main__":
    if "-m" in sys.argv:
        nothing()
    else:
        main(*map(int, sys.argv[1:]))
