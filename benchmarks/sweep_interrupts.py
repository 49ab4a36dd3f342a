"""What interrupts do to a sweep: each of many sweeps of real trainings is interrupted once, at a random moment.

    python benchmarks/sweep_interrupts.py [count] [seed] [folder]

The moments lie from 0 to 10 s after the program listens to signals, some tens of ms after its start. Wanted: the sweep
ends, with status 75 and one sentence that says how to go on, without a stack trace; no job has failed; none is said to
be running; no process is left. Each outcome is added to `outcomes.jsonl` in the folder: the same command, started
again, goes on with the interrupts that are not there yet.
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
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TINY = ["data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=640", "data.val_size=160"]
TINY += ["data.test_size=160", "trainer=cpu", "trainer.max_epochs=3", "model=mnist_sdn_8k", "seed=range(200)"]
MOMENTS = 10.0  # seconds
PATIENCE, GRACE = 120.0, 15.0  # seconds until it counts as a hang, and what is left of it as orphans
MARK = "SWEEP_INTERRUPTS"  # an environment variable by which the processes of a sweep are found
WAYS = {  # the jobs at once, the signal, and whether all processes of the terminal get it
    "Ctrl-C, 2 jobs at once": (2, signal.SIGINT, True),
    "SIGINT to the launcher, 2 jobs at once": (2, signal.SIGINT, False),
    "Ctrl-C, 1 job at once": (1, signal.SIGINT, True),
    "SIGTERM to the launcher, 2 jobs at once": (2, signal.SIGTERM, False),
}
FAULTS = ("hang", "failed", "running", "orphans", "trace", "status", "sentence")


def interrupt(folder: Path, way: str, moment: float) -> dict[str, Any]:
    """Start a sweep, interrupt it, and return what was wrong with how it ended."""
    n_jobs, number, everyone = WAYS[way]
    mark = uuid.uuid4().hex
    command = [sys.executable, "src/train.py", "-m", *TINY, f"hydra.sweeper.n_jobs={n_jobs}"]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [*command, f"hydra.sweep.dir={folder}"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, MARK: mark},
            start_new_session=True,
        )
        wait_until(lambda: process.poll() is not None or listens(process.pid))
        time.sleep(moment)
        (os.killpg if everyone else os.kill)(process.pid, number)
        hang = not wait_until(lambda: process.poll() is not None)
        orphans = [] if wait_until(lambda: not marked(mark), GRACE) else marked(mark)
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        said = output.read()
    statuses = [json.loads(path.read_text()) for path in folder.glob("*/status.json")]
    words = said + "".join(path.read_text() for path in folder.glob("*/console.log"))
    return {
        "way": way,
        "moment": moment,
        "jobs": len(statuses),
        "hang": hang,
        "failed": [facts["error"] for facts in statuses if facts["status"] == "failed"],
        "running": sum(facts["status"] == "running" for facts in statuses),
        "orphans": [] if hang else orphans,
        "trace": "Traceback" in words or "Exception ignored" in words,
        "status": 0 if process.returncode == 75 else process.returncode,
        "sentence": said.count("ERROR: The sweep has not ") != 1,
        "said": said[-2000:],
    }


def wait_until(happened: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait for something, so long and no longer; return whether it has happened."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def listens(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM, as no Python program has by itself."""
    lines = read(Path(f"/proc/{pid}/status")).splitlines()
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def marked(mark: str) -> list[int]:
    """The processes that live and have a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if f"{MARK}={mark}" in read(folder / "environ") and ") Z " not in read(folder / "stat"):
            found.append(int(folder.name))
    return found


def read(path: Path) -> str:
    """The text of a file; nothing where it is gone, or somebody else's."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def main(count: int = 200, seed: int = 0, name: str = "logs/sweep_interrupts") -> int:
    """Interrupt sweeps until there are as many outcomes as wanted, and print a table of their faults."""
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "outcomes.jsonl"
    outcomes = [json.loads(line) for line in read(kept).splitlines()]
    for number in range(len(outcomes), count):
        generator = random.Random(f"{seed} {number}")
        outcome = interrupt(folder / str(number), list(WAYS)[number % len(WAYS)], generator.uniform(0, MOMENTS))
        with kept.open("a") as file:
            file.write(json.dumps(outcome) + "\n")
        outcomes.append(outcome)
        faults = ", ".join(f"{fault} {outcome[fault]}" for fault in FAULTS if outcome[fault])
        print(
            f"{number + 1}/{count} {outcome['way']}, after {outcome['moment']:.2f} s: {faults or 'in order'}",
            flush=True,
        )
        if not faults:
            shutil.rmtree(folder / str(number), ignore_errors=True)
    print(f"\n| interrupted by | sweeps | {' | '.join(FAULTS)} |\n|---|---:|{'---:|' * len(FAULTS)}")
    for way in WAYS:
        those = [outcome for outcome in outcomes if outcome["way"] == way]
        sums = (sum(bool(outcome[fault]) for outcome in those) for fault in FAULTS)
        print(f"| {way} | {len(those)} | {' | '.join(map(str, sums))} |")
    return int(any(outcome[fault] for outcome in outcomes for fault in FAULTS))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(*map(int, arguments[:2]), *arguments[2:]))
