"""Compare the peak memory of the default run with that of a bare script that holds the same data, torch and lightning.

    python benchmarks/memory.py      # on Fashion-MNIST, which has MNIST's number and size of images, if it is installed

Each runs three times in a separate process; the medians are printed.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HAS_FASHION = Path("/usr/share/datasets/fashion-mnist").is_dir()
DATA = (
    ["data=fashion_mnist"]
    if HAS_FASHION
    else ["data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=60000", "data.test_size=10000"]
)
BARE = """
import torch, lightning
train = torch.randint(256, (60000, 1, 28, 28), dtype=torch.uint8)
test = torch.zeros(10000, 1, 28, 28, dtype=torch.uint8)
labels = torch.randint(10, (60000,))
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.AdamW(net.parameters(), fused=True)
for x, y in zip(train.split(128), labels.split(128)):
    loss = torch.nn.functional.cross_entropy(net(x.float() / 255), y)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
"""


def peak(command: list[str]) -> float:
    """Return the peak memory of a process in MB."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command} failed"
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Measure both and print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, "src/train.py", *DATA, "trainer.max_epochs=2", f"hydra.run.dir={folder}"]
        commands = {"run": run, "bare": [sys.executable, "-c", BARE]}
        peaks = {name: statistics.median(peak(command) for _ in range(3)) for name, command in commands.items()}
    print(f"{DATA[0]}: run {peaks['run']:,.0f} MB, bare {peaks['bare']:,.0f} MB, {peaks['run'] / peaks['bare']:.2f}x")


if __name__ == "__main__":
    main()
