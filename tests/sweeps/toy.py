"""A program like `src/train.py` whose runs take no time; tests of sweeps start it, and make it fail.

A run's value is highest at model.optimizer.lr=0.01. `tags` say what it does: fail, die, be killed, wait.
"""

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src.sweeps.ending import listen_from_the_start

if __name__ == "__main__":
    listen_from_the_start()

from omegaconf import DictConfig

from src.cli.entry_point import entry_point
from src.run.rerun import resume_job


@entry_point("train")
def main(cfg: DictConfig) -> float:
    """Append a line to `starts.txt` at each start, and end as the tags say."""
    folder = Path(cfg.paths.output_dir)
    resume_job(cfg, folder)
    if "stubborn" in cfg.tags:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with (folder / "starts.txt").open("a") as file:
        file.write(f"{os.environ.get('OMP_NUM_THREADS')} {os.getpid()}\n")
    first = len((folder / "starts.txt").read_text().splitlines()) == 1
    sys.stdout.write("spoken\n")
    if "fail" in cfg.tags or ("fail_once" in cfg.tags and first):
        raise ValueError(f"seed={cfg.seed} is no good.")
    if "exit" in cfg.tags:
        os._exit(3)
    if "killed_once" in cfg.tags and first:
        os.kill(os.getpid(), signal.SIGKILL)
    if "segfault" in cfg.tags:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "wait" in cfg.tags or "stubborn" in cfg.tags:
        time.sleep(600)
    return -((cfg.model.optimizer.lr - 0.01) ** 2)


if __name__ == "__main__":
    main()
