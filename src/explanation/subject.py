"""What is explained: a trained task with the samples of its data, and what the net makes of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from src.callbacks.image_report import cat_padded, side_by_side
from src.data.batches import SampleLoader
from src.data.resumable_loader import SeededSampler
from src.data.splits import LoadedSplits
from src.explanation.section import LeftOut
from src.models.task import Batch, Outputs, Task

BATCH_SIZE = 250
CLASSES = "classes"  # the kind of outputs (see `src.predictor`) that most sections are about
SEED = 0  # of every choice of samples


class Samples:
    """Some samples of a split, as evaluation sees them.

    Args:
        loader: of the split: batches from memory, or torch's DataLoader.
        limit: how many at most, drawn by a fixed seed; None: all.
        indices: which, instead.
    """

    def __init__(self, loader: Any, limit: int | None = None, indices: Tensor | None = None) -> None:
        self.loader = loader
        self.total = loader.count if isinstance(loader, SampleLoader) else len(loader.dataset)
        if indices is None:
            order = torch.randperm(self.total, generator=torch.Generator().manual_seed(SEED))
            indices = order[:limit].sort().values
        self.indices = indices  # (n,)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Batch]:
        if isinstance(self.loader, SampleLoader):
            yield from (self.loader.make_batch(part, 0) for part in self.indices.split(BATCH_SIZE) if len(part))
            return
        chosen: list[Any] = self.indices.tolist()
        if isinstance(self.loader.sampler, SeededSampler):
            chosen = [(index, None) for index in chosen]  # without a seed, nothing is augmented
        yield from DataLoader(
            self.loader.dataset,
            min(BATCH_SIZE, self.loader.batch_size or 1),
            sampler=chosen,
            collate_fn=self.loader.collate_fn,
            num_workers=self.loader.num_workers,
        )

    def at(self, positions: Tensor) -> "Samples":
        """Return those at some positions (m,) of these."""
        return Samples(self.loader, indices=self.indices[positions])

    def first(self, count: int) -> "Samples":
        """Return a random part of these."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(SEED))
        return self.at(order[:count].sort().values)

    @property
    def described(self) -> str:
        """Return how many of how many they are, such as "10,000 of 60,000"."""
        return f"{len(self):,}" + (f" of {self.total:,}" if len(self) < self.total else "")


@dataclass(frozen=True)
class Results:
    """What an output says of n samples.

    Args:
        errors: the task's error of each (n,); 0 if it is correct.
        confusion: counts (classes, classes), rows are true; None without classes.
        logits: (n, classes); None for an output of another kind than classes.
        labels: (n,), likewise.
    """

    errors: Tensor
    confusion: Tensor | None
    logits: Tensor | None
    labels: Tensor | None


@dataclass(frozen=True)
class Subject:
    """A trained task and its data.

    Args:
        task: in evaluation mode.
        datamodule: with its data read.
        limit: samples of each split at most.
    """

    task: Task
    datamodule: Any
    limit: int

    @cached_property
    def input_card(self) -> dict[str, Any]:
        """Return the description of the data."""
        return self.datamodule.input_card()

    @cached_property
    def cards(self) -> dict[str, dict[str, Any]]:
        """Return the description of each output."""
        return self.task.output_card(self.input_card)

    @cached_property
    def splits(self) -> dict[str, Samples]:
        """Return the samples of "val" and "test", and of "train" where they are to be had without augmentation."""
        loaders = {"val": self.datamodule.val_dataloader(), "test": self.datamodule.test_dataloader()}
        if isinstance(self.datamodule, LoadedSplits):
            loaders["train"] = self.datamodule.make_loader(self.datamodule.data_train, False, BATCH_SIZE, 0, 1)
        return {name: Samples(loader, self.limit) for name, loader in loaders.items() if loader is not None}

    def results(self, split: str) -> dict[str, Results]:
        """Return the results of a split by output, computed once."""
        return self._evaluated(split)[0]

    def score(self, split: str) -> float:
        """Return the task's score on a split, whose metrics are gathered along with its results."""
        return float(self._evaluated(split)[1].compute()[self.task.score])

    def _evaluated(self, split: str) -> tuple[dict[str, Results], MetricCollection]:
        if split not in self._known:
            self._known[split] = evaluate(self, self.splits[split])
        return self._known[split]

    @cached_property
    def _known(self) -> dict[str, tuple[dict[str, Results], MetricCollection]]:
        return {}

    @property
    def is_of_images(self) -> bool:
        """Return whether the net takes images."""
        return self.input_card.get("input", "image") == "image"

    def check_images(self) -> None:
        """Raise LeftOut unless the net takes images."""
        if not self.is_of_images:
            raise LeftOut(f"The net takes {self.input_card['input']}, and this is about images.")

    def class_outputs(self) -> dict[str, list[str]]:
        """Return the names of the classes by output.

        Raises:
            LeftOut: no output is of classes.
        """
        names = {name: card["names"] for name, card in self.cards.items() if card["kind"] == CLASSES}
        if not names:
            kinds = ", ".join(sorted({str(card["kind"]) for card in self.cards.values()}))
            raise LeftOut(f"This is about a class for each sample, and the net predicts something else ({kinds}).")
        return names

    def forward(self, batch: Batch) -> tuple[Batch, Outputs, dict[str, Tensor]]:
        """Return a prepared batch, its outputs, and its targets."""
        batch = self.task.prepare(batch)
        return batch, self.task.named_outputs(*batch[:-1]), self.task.targets(batch)

    @torch.no_grad()
    def shown(self, samples: Samples, name: str) -> tuple[Tensor, list[str], list[str]]:
        """Return pictures (N, C, H, W) of some samples with one output, captions, and the names of the panels."""
        parts: list[list[Tensor]] = []
        for batch in samples:
            prepared, outputs, targets = self.forward(batch)
            parts.append([prepared[0], outputs[name], targets[name]])
        inputs, output, target = parts[0]
        for further in parts[1:]:
            inputs, output, target = (cat_padded(*pair) for pair in zip((inputs, output, target), further, strict=True))
        panels = self.task.panels(inputs, output, target)
        descriptions = self.task.describe_samples(output, target, self.cards.get(name, {}))
        return side_by_side(panels), [self.task.caption(one) for one in descriptions], list(panels)


@torch.no_grad()
def evaluate(subject: Subject, samples: Samples) -> tuple[dict[str, Results], MetricCollection]:
    """Run the net on samples, and return the results by output and the task's metrics.

    Raises:
        ValueError: an output is not finite.
    """
    metrics = subject.task.make_metrics("test")
    parts: dict[str, list[tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]]] = {}
    for outputs, targets in predictions(subject, samples, metrics):
        for name in [name for name in outputs if name in targets]:
            output, target = outputs[name].float(), targets[name]
            if not output.isfinite().all():
                raise ValueError(f"The net's output {name} is not finite: there is nothing to explain.")
            of_classes = subject.cards.get(name, {}).get("kind") == CLASSES
            kept = (output, target) if of_classes else (None, None)
            errors, confusion = subject.task.sample_errors(output, target), subject.task.confusion(output, target)
            parts.setdefault(name, []).append((errors, confusion, *kept))
    return {name: joined(rows) for name, rows in parts.items()}, metrics


def joined(rows: Sequence[tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]]) -> Results:
    """Join the results of batches."""
    errors, confusions, logits, labels = zip(*rows, strict=True)
    return Results(
        torch.cat(errors),
        None if confusions[0] is None else torch.stack(confusions).sum(0),
        None if logits[0] is None else torch.cat(logits),
        None if labels[0] is None else torch.cat(labels),
    )


@torch.no_grad()
def score(subject: Subject, batches: Iterator[Batch] | Samples) -> float:
    """Return the task's score on batches."""
    metrics = subject.task.make_metrics("test")
    for _ in predictions(subject, batches, metrics):
        pass
    return float(metrics.compute()[subject.task.score])


def predictions(
    subject: Subject, batches: Iterator[Batch] | Samples, metrics: MetricCollection
) -> Iterator[tuple[Outputs, dict[str, Tensor]]]:
    """Yield the outputs and targets of batches, with which the metrics are updated."""
    task = subject.task
    for batch in batches:
        _, outputs, targets = subject.forward(batch)
        task.update_metrics(metrics, task.losses(outputs, targets), outputs, targets)
        yield outputs, targets


def label_of(name: str, outputs: Mapping[str, Any]) -> str:
    """Return an output's name for a title where there are several."""
    return f": {name}" if len(outputs) > 1 else ""
