"""Measure how long users wait: from `python src/train.py` to the first optimizer step, and for an error message.

    python benchmarks/startup.py

The first is compared with a bare script that imports torch and lightning and makes one step of a small net; both run
in turn as whole processes. The run uses Fashion-MNIST if it is installed, else synthetic images.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAIRS = 7
BARE = """
import torch, lightning
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.AdamW(net.parameters(), fused=True)
torch.nn.functional.cross_entropy(net(torch.zeros(128, 1, 28, 28)), torch.zeros(128, dtype=torch.long)).backward()
optimizer.step()
"""
COMMANDS = {
    "--help": ["--help"],
    "unknown model": ["model=mnist_cnn_68"],
    "unknown key": ["trainer.max_epoch=3"],
    "wrong type": ["trainer.max_epochs=ten"],
}


def seconds(*command: str, status: int = 0) -> float:
    """Return the wall time of a process, which must end with the given exit status."""
    start = time.perf_counter()
    result = subprocess.run(command, cwd=ROOT, capture_output=True)
    elapsed = time.perf_counter() - start
    assert result.returncode == status, result.stderr.decode()
    return elapsed


def main() -> None:
    """Time the commands in turn and print the medians."""
    has_fashion = Path("/usr/share/datasets/fashion-mnist").is_dir()
    data = ["data=fashion_mnist"] if has_fashion else ["data=synthetic", "data.channels=1", "data.image_size=28"]
    run = [sys.executable, "src/train.py", *data, "+callbacks.exit._target_=benchmarks.startup.exit_callback"]
    pairs = [(seconds(*run), seconds(sys.executable, "-c", BARE)) for _ in range(PAIRS + 1)][1:]
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"to the first step: src/train.py {ours:.2f} s   bare script {bare:.2f} s   ratio {ratio:.2f}  ({PAIRS} pairs)"
    )
    for name, arguments in COMMANDS.items():
        times = [seconds(sys.executable, "src/train.py", *arguments, status=int(name != "--help")) for _ in range(3)]
        print(f"{name:14s} answered in {statistics.median(times):.2f} s")


def exit_callback() -> Any:
    """Return a callback that ends the process at the first optimizer step."""
    import lightning as L

    class ExitAtFirstStep(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            os._exit(0)

    return ExitAtFirstStep()


if __name__ == "__main__":
    main()
