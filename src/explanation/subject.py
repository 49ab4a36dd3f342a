"""The subject of an explanation: a trained task, the samples of its data, and the net's results on them."""

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
CLASSES = "classes"  # the kind of output (see `src.predictor`) that most sections need
SEED = 0  # for every random choice of samples


class Samples:
    """Some samples of a split, as evaluation sees them.

    Args:
        loader: loader of the split: batches from memory, or torch's DataLoader.
        limit: maximum number of samples, drawn with a fixed seed; None: all.
        indices: indices of the samples, instead of `limit`.
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
        """Return the samples at positions (m,) within these."""
        return Samples(self.loader, indices=self.indices[positions])

    def first(self, count: int) -> "Samples":
        """Return a random subset of at most `count` samples."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(SEED))
        return self.at(order[:count].sort().values)

    @property
    def described(self) -> str:
        """Return their number and the size of the split, such as "10,000 of 60,000"."""
        return f"{len(self):,}" + (f" of {self.total:,}" if len(self) < self.total else "")


@dataclass(frozen=True)
class Results:
    """The results of one output on n samples.

    Args:
        errors: the task's error of each sample (n,); 0 if correct.
        confusion: counts (classes, classes), with rows for true classes; None without classes.
        logits: (n, classes); None if the output is not of kind "classes".
        labels: (n,); None if the output is not of kind "classes".
    """

    errors: Tensor
    confusion: Tensor | None
    logits: Tensor | None
    labels: Tensor | None


@dataclass(frozen=True)
class Subject:
    """A trained task and its data.

    Args:
        task: the task, in evaluation mode.
        datamodule: its DataModule, with the data read.
        limit: maximum number of samples of each split.
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
        """Return the samples of "val" and "test", and of "train" if available without augmentation."""
        loaders = {"val": self.datamodule.val_dataloader(), "test": self.datamodule.test_dataloader()}
        if isinstance(self.datamodule, LoadedSplits):
            loaders["train"] = self.datamodule.make_loader(self.datamodule.data_train, False, BATCH_SIZE, 0, 1)
        return {name: Samples(loader, self.limit) for name, loader in loaders.items() if loader is not None}

    def results(self, split: str) -> dict[str, Results]:
        """Return the results of a split by output, computed once."""
        return self._evaluated(split)[0]

    def score(self, split: str) -> float:
        """Return the task's score on a split, whose metrics are computed along with its results."""
        return float(self._evaluated(split)[1].compute()[self.task.score])

    def _evaluated(self, split: str) -> tuple[dict[str, Results], MetricCollection]:
        if split not in self._known:
            self._known[split] = evaluate(self, self.splits[split])
        return self._known[split]

    @cached_property
    def _known(self) -> dict[str, tuple[dict[str, Results], MetricCollection]]:
        return {}

    @property
    def takes_images(self) -> bool:
        """Return whether the net takes images."""
        return self.input_card.get("input", "image") == "image"

    def check_images(self) -> None:
        """Raise LeftOut unless the net takes images."""
        if not self.takes_images:
            raise LeftOut(f"This needs images, but the net takes {self.input_card['input']}.")

    def class_outputs(self) -> dict[str, list[str]]:
        """Return the names of the classes by output.

        Raises:
            LeftOut: no output has classes.
        """
        names = {name: card["names"] for name, card in self.cards.items() if card["kind"] == CLASSES}
        if not names:
            kinds = ", ".join(sorted({str(card["kind"]) for card in self.cards.values()}))
            raise LeftOut(f"This needs a class for each sample, but the net predicts something else ({kinds}).")
        return names

    def forward(self, batch: Batch) -> tuple[Batch, Outputs, dict[str, Tensor]]:
        """Return a prepared batch, its outputs, and its targets."""
        batch = self.task.prepare(batch)
        return batch, self.task.named_outputs(*batch[:-1]), self.task.targets(batch)

    @torch.no_grad()
    def shown(self, samples: Samples, name: str) -> tuple[Tensor, list[str], list[str]]:
        """Return pictures (N, C, H, W) of some samples for one output, captions, and the names of the panels."""
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
    """Run the net on samples and return the results by output and the task's metrics.

    Raises:
        ValueError: an output is not finite.
    """
    metrics = subject.task.make_metrics("test")
    parts: dict[str, list[tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]]] = {}
    for outputs, targets in predictions(subject, samples, metrics):
        for name in [name for name in outputs if name in targets]:
            output, target = outputs[name].float(), targets[name]
            if not output.isfinite().all():
                raise ValueError(f"The net's output {name} is not finite, so that it cannot be explained.")
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
    """Yield the outputs and targets of batches, and update the metrics with them."""
    task = subject.task
    for batch in batches:
        _, outputs, targets = subject.forward(batch)
        task.update_metrics(metrics, task.losses(outputs, targets), outputs, targets)
        yield outputs, targets


def label_of(name: str, outputs: Mapping[str, Any]) -> str:
    """Return an output's name as a suffix for titles if there are several outputs."""
    return f": {name}" if len(outputs) > 1 else ""
