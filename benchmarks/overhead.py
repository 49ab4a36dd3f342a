"""Measure the framework's overhead: epochs of a real run against a plain PyTorch loop's, in turn, in one process.

    python benchmarks/overhead.py                       # the default net on images of MNIST's number and size
    python benchmarks/overhead.py model=cifar10_cnn_210k data.train_size=12000 data.val_size=1000
    python benchmarks/overhead.py model=cifar10_autoencoder_752k data.train_size=1024 data.val_size=64

The run is that of `src/train.py`, with all metrics, callbacks, logger and progress bar on. After each of its epochs the
plain loop runs one over the same tensors: index, cast, normalise, forward, backward, fused AdamW, sums of the loss and,
for classifiers, of correct predictions, then the validation set. Each pair of epochs gives a ratio; the medians are
printed.

A run adds nearly the same time to a step for every net, so the ratio depends on how long a plain step takes on this
machine with this net: both are printed, too. Other programs affect CPU time less; it includes threads that spin while
they wait for others, so OMP_NUM_THREADS=1 is fairest for it.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
import lightning as L
import numpy as np
import torch
from torch.nn import functional as F

import src.train
from src.config.paths import CONFIGS
from src.models.reconstruction import Reconstruction

EPOCHS = 8  # pairs that are measured, after one to warm up


def now() -> Any:
    """Return the wall time and this process's CPU time in seconds (2,)."""
    return np.array([time.perf_counter(), time.process_time()])


class PlainLoop(L.Callback):
    """Run an epoch of a plain loop after each epoch of the run; it classifies images, or reconstructs them."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.net = net
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
        self.training: list[tuple[Any, Any]] = []  # seconds (2,): the run's, the plain loop's
        self.epoch: list[tuple[Any, Any]] = []  # the same for whole epochs, with validation

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start an epoch of the run; the previous one has ended, with its checkpoint and logs."""
        if trainer.current_epoch:
            run = now() - self.start
            training, validation = self.plain_epoch(trainer.datamodule, isinstance(pl_module, Reconstruction))
            self.training.append((self.run_training, training))
            self.epoch.append((run, training + validation))
        self.start = now()

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """End the training part of the run's epoch."""
        if not trainer.sanity_checking:
            self.run_training = now() - self.start

    def plain_epoch(self, data: Any, reconstructs: bool) -> tuple[Any, Any]:
        """Train and validate on the same tensors as the run; return the seconds of both parts."""
        scale, shift = 1 / (255 * data.std[0]), -data.mean[0] / data.std[0]
        start = now()
        self.net.train()
        images, labels = data.data_train.tensors
        order = torch.randperm(len(images))
        total, correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
        for indices in order[: len(order) // data.batch_size * data.batch_size].split(data.batch_size):
            pixels, y = images[indices].float(), labels[indices]
            if reconstructs:
                loss = F.mse_loss(self.net(pixels * scale + shift), pixels / 255)
            else:
                outputs = self.net(pixels.mul_(scale).add_(shift))
                loss = F.cross_entropy(outputs, y)
                correct += (outputs.argmax(1) == y).sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        middle = now()
        self.net.eval()
        images, labels = data.data_val.tensors
        with torch.inference_mode():
            for x, y in zip(images.split(data.batch_size), labels.split(data.batch_size), strict=True):
                outputs = self.net(x.float().mul_(scale).add_(shift))
                if reconstructs:
                    total += F.mse_loss(outputs, x.float() / 255)
                else:
                    correct += (outputs.argmax(1) == y).sum()
        return middle - start, now() - middle


def main() -> None:
    """Run both and print the table."""
    with (
        tempfile.TemporaryDirectory() as folder,
        hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"),
    ):
        own = hydra.compose("train", [argument for argument in sys.argv[1:] if argument.startswith("model=")]).data
        if Path("/usr/share/datasets/fashion-mnist").is_dir() and own.image_size == 28:
            data = ["data=fashion_mnist"]
        else:
            shape = [f"data.{key}={own[key]}" for key in ("channels", "image_size", "num_classes", "batch_size")]
            data = ["data=synthetic", *shape, "data.train_size=60000", "data.val_size=5000"]
        options = [
            f"paths.output_dir={folder}",
            f"trainer.max_epochs={EPOCHS + 2}",
            "test=false",
            "trainer=cpu",
        ]
        comparison = ["+callbacks.plain._target_=benchmarks.overhead.PlainLoop", "+callbacks.plain.net=${model.net}"]
        cfg = hydra.compose("train", [*data, *options, *comparison, *sys.argv[1:]])
        _, objects = src.train.train(cfg)
    loop = next(callback for callback in objects["callbacks"] if type(callback).__name__ == "PlainLoop")
    print(
        f"{cfg.model.net._target_.rpartition('.')[2]}, batch {cfg.data.batch_size}, {torch.get_num_threads()} threads"
    )
    steps = objects["trainer"].num_training_batches
    for part, pairs in {"training part": loop.training[1:], "whole epoch": loop.epoch[1:]}.items():
        ours, plain = np.array(pairs).swapaxes(0, 1)  # (pairs, 2) each
        seconds, cpu = np.median(ours / plain, axis=0)
        (run, _), (bare, _) = np.median(ours, axis=0), np.median(plain, axis=0)
        print(
            f"{part:14s} run {run:.3f} s   plain loop {bare:.3f} s ({1000 * bare / steps:.2f} ms a step)   "
            f"{1000 * (run - bare) / steps:+.2f} ms a step   ratio {seconds:.2f}, of CPU time {cpu:.2f}   "
            f"({len(pairs)} pairs, medians)"
        )


if __name__ == "__main__":
    main()
