"""Measure training speed on a machine that other programs use, with OpenMP's waiting policy and with this project's.

    python benchmarks/busy_machine.py [rounds]

The machine is quiet, or runs three trainings of two threads each, or two busy loops per core, which this script starts
and ends. In each case the train steps of four nets are timed (batch 128, all cores) in a process with OpenMP's default
policy and in one with this project's; in turn, several rounds, medians. At the end, two trainings at once are timed
against the same trainings one after the other.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.system.openmp import POLICY, SPINNING, let_waiting_threads_yield, watch_contention

NETS = ("mnist_efficientnet_210k", "mnist_hybrid_210k", "mnist_vit_210k", "mnist_sdn_68k")
SECONDS, BATCH = 4.0, 128
LEAD_TIME = 3  # seconds that a load runs before the measurement
MAX_SECONDS = 1800  # after which a load ends by itself, even if this script has failed
TRAIN = ["model=mnist_cnn_68k", "data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=25600"]
TRAIN += ["data.val_size=1280", "trainer.max_epochs=4", "test=false", "logger=none"]


def measure(names: list[str]) -> None:
    """Print the images per second of each net's train step; run in a process of this benchmark."""
    import hydra
    import torch

    from src.config.paths import CONFIGS
    from src.run.instantiate import instantiate
    from src.speed.measure import seconds_per_step, train_step
    from src.system.cpu import physical_cores

    watch_contention()  # acts only in the environment of `let_waiting_threads_yield`
    torch.set_num_threads(physical_cores())
    for name in names:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = hydra.compose("benchmark", [f"model={name}", "paths.output_dir=."])
        model = instantiate(cfg.model)
        step = train_step(model, model.example_batch(BATCH))
        step()
        print(name, BATCH / seconds_per_step(step, SECONDS), flush=True)


def train_for_long() -> None:
    """Train with two threads until the time is over; run in three processes of a load."""
    import torch

    torch.set_num_threads(2)
    filters = [torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3)]
    net = torch.nn.Sequential(*filters, torch.nn.Flatten(), torch.nn.LazyLinear(10))
    images = torch.randn(64, 1, 28, 28)
    end = time.monotonic() + MAX_SECONDS
    while time.monotonic() < end:
        net(images).sum().backward()


def spin() -> None:
    """Keep a core busy until the time is over."""
    end = time.monotonic() + MAX_SECONDS
    while time.monotonic() < end:
        pass


def environment(yielding: bool) -> dict[str, str]:
    """Return the environment of a process whose threads yield, or wait as OpenMP's default is."""
    plain = {name: value for name, value in os.environ.items() if name not in (*SPINNING, POLICY, "OMP_NUM_THREADS")}
    if yielding:
        let_waiting_threads_yield(plain)
    return plain


@contextmanager
def load(kind: str, count: int) -> Iterator[None]:
    """Run a load during the measurement."""
    command = [sys.executable, __file__, f"--{kind}"]
    running = [subprocess.Popen(command, env=environment(yielding=False)) for _ in range(count)]
    try:
        if running:
            time.sleep(LEAD_TIME + 12 * (kind == "trainings"))  # they import torch first
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def speeds(yielding: bool) -> dict[str, float]:
    """Return the images per second of each net in a new process."""
    command = [sys.executable, __file__, "--measure", *NETS]
    result = subprocess.run(command, env=environment(yielding), capture_output=True, text=True, check=True, timeout=900)
    return {name: float(value) for name, value in (line.split() for line in result.stdout.splitlines())}


def train_seconds(at_once: int, in_turn: int) -> float:
    """Return the seconds of `in_turn` rounds of `at_once` concurrent trainings."""
    start = time.monotonic()
    command = [sys.executable, str(ROOT / "src" / "train.py"), *TRAIN]
    for _ in range(in_turn):
        running = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(False))
            for _ in range(at_once)
        ]
        assert not any(process.wait() for process in running)
    return time.monotonic() - start


def main(rounds: int) -> None:
    """Measure all and print a table."""
    cores = os.cpu_count() or 1
    cases = {"quiet": ("spin", 0), "3 trainings of 2 threads": ("trainings", 3), "2 loops a core": ("spin", 2 * cores)}
    share = {"quiet": 1.0, "3 trainings of 2 threads": 1 / (1 + 6 / cores), "2 loops a core": 1 / 3}
    medians: dict[tuple[str, bool, str], float] = {}
    for case, (kind, count) in cases.items():
        with load(kind, count):
            pairs = [(speeds(False), speeds(True)) for _ in range(rounds)]
        for name in NETS:
            ratio = statistics.median(ours[name] / theirs[name] for theirs, ours in pairs)
            for yielding in (False, True):
                medians[case, yielding, name] = statistics.median(pair[yielding][name] for pair in pairs)
            before, after = medians[case, False, name], medians[case, True, name]
            fair = share[case] * medians["quiet", True, name]
            print(
                f"{case:26s} {name:26s} OpenMP's own {before:8.0f}   yielding {after:8.0f} images/s   "
                f"ratio {ratio:5.2f}   {after / fair:.2f} of the fair share",
                flush=True,
            )
    times = [(train_seconds(1, 2), train_seconds(2, 1)) for _ in range(rounds)]
    ratio = statistics.median(both / single for single, both in times)
    print(f"two trainings at once against one after the other: {ratio:.2f} of the time ({rounds} rounds, medians)")


if __name__ == "__main__":
    if "--measure" in sys.argv:
        measure(sys.argv[2:])
    elif "--trainings" in sys.argv:
        train_for_long()
    elif "--spin" in sys.argv:
        spin()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
