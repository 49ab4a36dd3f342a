"""Test how sweeps end when they are interrupted: many sweeps of real trainings, each interrupted at a random time.

    python benchmarks/sweep_interrupts.py [count] [seed] [folder]

The interrupt comes 0 to 10 s after the program handles signals, some tens of ms after its start. Expected: the sweep
ends with status 75 and one sentence that says how to resume, without a stack trace; no job has failed; no status is
"running"; no process is left. Each outcome is appended to `outcomes.jsonl` in the folder: the same command, started
again, continues with the missing interrupts.
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
PATIENCE, GRACE = 120.0, 15.0  # seconds until a sweep counts as hung, and its remaining processes as orphans
MARK = "SWEEP_INTERRUPTS"  # an environment variable that marks the processes of a sweep
WAYS = {  # the number of concurrent jobs, the signal, and whether all processes of the terminal get it
    "Ctrl-C, 2 jobs at once": (2, signal.SIGINT, True),
    "SIGINT to the launcher, 2 jobs at once": (2, signal.SIGINT, False),
    "Ctrl-C, 1 job at once": (1, signal.SIGINT, True),
    "SIGTERM to the launcher, 2 jobs at once": (2, signal.SIGTERM, False),
}
FAULTS = ("hang", "failed", "running", "orphans", "trace", "status", "sentence")


def interrupt(folder: Path, way: str, moment: float) -> dict[str, Any]:
    """Start a sweep, interrupt it, and return the faults of its end."""
    n_jobs, number, to_all = WAYS[way]
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
        (os.killpg if to_all else os.kill)(process.pid, number)
        hang = not wait_until(lambda: process.poll() is not None)
        orphans = [] if wait_until(lambda: not marked(mark), GRACE) else marked(mark)
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        printed = output.read()
    statuses = [json.loads(path.read_text()) for path in folder.glob("*/status.json")]
    words = printed + "".join(path.read_text() for path in folder.glob("*/console.log"))
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
        "sentence": printed.count("ERROR: The sweep has not ") != 1,
        "said": printed[-2000:],
    }


def wait_until(happened: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait for at most `seconds` until something has happened; return whether it has."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def listens(pid: int) -> bool:
    """Return whether a process has a handler for SIGTERM, which a plain Python program has not."""
    lines = read(Path(f"/proc/{pid}/status")).splitlines()
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def marked(mark: str) -> list[int]:
    """Return the running processes that have a mark in their environment."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        if f"{MARK}={mark}" in read(folder / "environ") and ") Z " not in read(folder / "stat"):
            pids.append(int(folder.name))
    return pids


def read(path: Path) -> str:
    """Return the text of a file; "" if it is gone or not readable."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def main(count: int = 200, seed: int = 0, name: str = "logs/sweep_interrupts") -> int:
    """Interrupt sweeps until there are `count` outcomes, and print a table of their faults."""
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "outcomes.jsonl"
    outcomes = [json.loads(line) for line in read(path).splitlines()]
    for number in range(len(outcomes), count):
        generator = random.Random(f"{seed} {number}")
        outcome = interrupt(folder / str(number), list(WAYS)[number % len(WAYS)], generator.uniform(0, MOMENTS))
        with path.open("a") as file:
            file.write(json.dumps(outcome) + "\n")
        outcomes.append(outcome)
        faults = ", ".join(f"{fault} {outcome[fault]}" for fault in FAULTS if outcome[fault])
        print(
            f"{number + 1}/{count} {outcome['way']}, after {outcome['moment']:.2f} s: {faults or 'no faults'}",
            flush=True,
        )
        if not faults:
            shutil.rmtree(folder / str(number), ignore_errors=True)
    print(f"\n| interrupted by | sweeps | {' | '.join(FAULTS)} |\n|---|---:|{'---:|' * len(FAULTS)}")
    for way in WAYS:
        selected = [outcome for outcome in outcomes if outcome["way"] == way]
        sums = (sum(bool(outcome[fault]) for outcome in selected) for fault in FAULTS)
        print(f"| {way} | {len(selected)} | {' | '.join(map(str, sums))} |")
    return int(any(outcome[fault] for outcome in outcomes for fault in FAULTS))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(*map(int, arguments[:2]), *arguments[2:]))
