"""Images of a run: training samples, confusion matrices and worst mistakes."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from src.callbacks.fonts import fonts_for
from src.callbacks.pictures import as_pictures
from src.models.classifier import class_name
from src.models.task import Batch, DescribesInputs, Task
from src.run.file_names import TEST_REPORT
from src.system.json_files import read_json, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PIXELS = 64  # height of an image in the test report
MAX_NUMBERED_CLASSES = 20  # above this a confusion matrix has no room for counts and names


class OutputResults:
    """Accumulate the confusion matrix, if there are classes, and the worst mistakes of one output.

    Args:
        num_mistakes: how many mistakes to keep.
    """

    def __init__(self, num_mistakes: int) -> None:
        self.num_mistakes = num_mistakes
        self.counts: Tensor | None = None  # (num_classes, num_classes), rows are true classes
        self.mistakes: list[Tensor] = []  # errors (M,), inputs, outputs and targets (M, …)

    def update(self, task: Task, inputs: Tensor, output: Tensor, target: Tensor) -> None:
        """Add a batch: inputs, an output and its target (B, …)."""
        counts = task.confusion(output, target)
        if counts is not None:
            self.counts = counts if self.counts is None else self.counts + counts
        errors = task.sample_errors(output, target)
        wrong = errors > 0
        mistakes = [errors[wrong], inputs[wrong], output[wrong], target[wrong]]
        if self.mistakes:
            mistakes = [cat_padded(*pair) for pair in zip(self.mistakes, mistakes, strict=True)]
        worst = mistakes[0].argsort(descending=True)[: self.num_mistakes]
        self.mistakes = [part[worst] for part in mistakes]


class ImageReport(L.Callback):
    """Log a grid of training samples after the first epoch, and confusion matrices and worst mistakes after the test.

    TensorBoard gets pictures; confusion matrices and mistakes are also written to `test_report.json`, which
    `src/compare.py` reads. The task defines what a mistake is and how it is shown. Under DDP, only rank zero's
    mistakes are reported, while the confusion matrix counts the samples of all ranks.

    Args:
        num_images: images in a grid.
        dirpath: folder of the test report; None: no report.
    """

    def __init__(self, num_images: int = 36, dirpath: str | None = None) -> None:
        if num_images < 1:
            raise ValueError(f"num_images={num_images} must be at least 1.")
        self.num_images, self.dirpath = num_images, dirpath
        self._samples: Batch | None = None
        self._samples_logged = False
        self._results: dict[str, OutputResults] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check, before training, that the report will not overwrite another file.

        Raises:
            ValueError: its path holds a file that is not a test report.
        """
        if self.dirpath is None:
            return
        path = Path(self.dirpath, TEST_REPORT)
        if path.exists() and "heads" not in read_json(path):
            raise ValueError(
                f"{path} is not a test report and is not overwritten: choose another callbacks.image_report.dirpath."
            )

    def state_dict(self) -> dict[str, Any]:
        """Save the folder in which the training samples were logged."""
        return {"samples_logged_in": self.dirpath if self._samples_logged else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Skip the samples, which take seconds, if the interrupted run has logged them to this folder."""
        logged_in = state_dict["samples_logged_in"]
        self._samples_logged = logged_in is not None and logged_in == self.dirpath

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the first training samples."""
        if self._samples is None and not self._samples_logged:
            self._samples = [part[: self.num_images].cpu() for part in batch]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the samples after the epoch, so that its first step is not delayed."""
        if self._samples is not None:
            task = as_task(pl_module)
            with isolate_rng():  # the random numbers drawn here must not change the training
                samples = task.prepare(self._samples)
            targets = task.targets(samples)
            pictures = side_by_side(task.target_panels(samples[0], targets))
            captions = task.target_captions(targets, output_cards(trainer, task))
            self._log(trainer, "train/samples", lambda: image_grid(pictures, captions))
            self._samples, self._samples_logged = None, True

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Clear the results."""
        self._results = {}

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch; `outputs` are the named outputs of the task's test step."""
        task = as_task(pl_module)
        batch = task.prepare(batch)
        targets = task.targets(batch)
        for name in [name for name in outputs if name in targets]:  # a code has no target
            results = self._results.setdefault(name, OutputResults(self.num_images))
            results.update(task, batch[0], outputs[name], targets[name])

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the confusion matrix and worst mistakes of each output, and write the report."""
        task, report = as_task(pl_module), {}
        cards = output_cards(trainer, task)
        for name, results in self._results.items():
            prefix = f"test/{name}/" if len(self._results) > 1 else "test/"
            entry: dict[str, Any] = {}
            card = cards.get(name, {})
            if results.counts is not None:
                counts = trainer.strategy.reduce(results.counts, reduce_op="sum").cpu()
                names = card.get("names")
                self._log(trainer, f"{prefix}confusion_matrix", lambda c=counts, n=names: confusion_figure(c, n))
                classes = [class_name(label, names) for label in range(len(counts))]
                entry = {"classes": classes, "counts": counts.tolist()}  # rows are true classes
            _, inputs, output, target = (part.cpu() for part in results.mistakes)
            descriptions = task.describe_samples(output, target, card)
            captions = [task.caption(description) for description in descriptions]
            panels = task.panels(inputs, output, target)
            pictures = side_by_side(panels)
            if captions:
                self._log(trainer, f"{prefix}worst_mistakes", lambda p=pictures, c=captions: image_grid(p, c))
            entry["panels"] = list(panels)
            entry["mistakes"] = [
                {**description, "caption": caption, "png": png}
                for description, caption, png in zip(descriptions, captions, encode_pngs(pictures), strict=True)
            ]
            report[name if len(self._results) > 1 else "test"] = entry
        if self.dirpath is not None and trainer.is_global_zero and report:
            Path(self.dirpath).mkdir(parents=True, exist_ok=True)
            write_json(Path(self.dirpath) / TEST_REPORT, {"heads": report})

    @staticmethod
    def _log(trainer: L.Trainer, tag: str, draw: Any) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.add_figure(tag, draw(), global_step=trainer.global_step)


def as_task(model: L.LightningModule) -> Task:
    """Return the model as a task.

    Raises:
        TypeError: it is not one.
    """
    if not isinstance(model, Task):
        raise TypeError(f"{type(model).__name__} must be a src.models.task.Task for callbacks.image_report.")
    return model


def output_cards(trainer: L.Trainer, task: Task) -> dict[str, dict[str, Any]]:
    """Return the description of each output; empty if the DataModule does not describe its inputs."""
    datamodule: Any = getattr(trainer, "datamodule", None)  # set dynamically by Lightning
    return task.output_card(datamodule.input_card()) if isinstance(datamodule, DescribesInputs) else {}


def side_by_side(panels: Mapping[str, Tensor]) -> Tensor:
    """Join the panels of each sample into one picture (N, C, H, panels · W); see `Task.panels`."""
    return torch.cat([as_pictures(panel) for panel in panels.values()], dim=3)


def cat_padded(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate batches of samples (B, …), and pad the shorter samples with zeros, as in padded tokens."""
    shape = [max(sizes) for sizes in zip(first.shape[1:], second.shape[1:], strict=True)]
    joined = first.new_zeros(len(first) + len(second), *shape)
    for start, part in ((0, first), (len(first), second)):
        place = (slice(start, start + len(part)), *map(slice, part.shape[1:]))
        joined[place] = part
    return joined


def rescale(images: Tensor) -> Tensor:
    """Rescale images (N, C, H, W) of any range to (N, H, W, C) in [0, 1]."""
    low, high = images.amin(dim=(0, 2, 3), keepdim=True), images.amax(dim=(0, 2, 3), keepdim=True)
    return ((images - low) / (high - low).clamp(min=1e-6)).permute(0, 2, 3, 1)


def encode_pngs(images: Tensor) -> list[str]:
    """Encode images (N, C, H, W) as base64 PNGs, reduced to thumbnails."""
    from PIL import Image

    if not len(images):
        return []
    encoded = []
    for pixels in (rescale(images.float()) * 255).round().byte().numpy():  # (H, W, C)
        picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels[..., :3])
        picture.thumbnail((MAX_PIXELS * max(1, round(picture.width / picture.height)), MAX_PIXELS))
        content = io.BytesIO()
        picture.save(content, format="PNG")
        encoded.append(base64.b64encode(content.getvalue()).decode())
    return encoded


def image_grid(images: Tensor, titles: list[str]) -> "Figure":
    """Draw images (N, C, H, W) of any range with their titles in a roughly square grid."""
    from matplotlib.figure import Figure  # imported only when needed, because it takes 0.5 s

    families, replacements = fonts_for(titles)
    width = images.shape[3] / images.shape[2]  # relative to the height
    columns = max(round((len(images) / width) ** 0.5), 1)
    rows = -(-len(images) // columns)
    cell = 1 + 0.32  # height of an image with its title
    figure = Figure(figsize=(1.3 * columns * width, 1.3 * cell * rows))
    axes = figure.add_axes((0, 0, 1, 1))  # a single Axes: one per image would take a second
    for index, (picture, title) in enumerate(zip(rescale(images).numpy(), titles, strict=False)):
        x, y = index % columns * width, index // columns * cell
        pixels = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
        extent = (x + 0.04, x + width - 0.04, y + cell - 0.04, y + cell - 0.96)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent)
        position = (x + width / 2, y + cell - 0.98)
        text_options: dict[str, Any] = {"family": families, "parse_math": False}  # a name may contain a $
        axes.text(*position, title.translate(replacements), fontsize=8, ha="center", va="bottom", **text_options)
    axes.set(xlim=(0, columns * width), ylim=(rows * cell, 0), aspect="auto")
    axes.set_axis_off()
    return figure


def confusion_figure(counts: Tensor, names: list[str] | None) -> "Figure":
    """Draw a confusion matrix (true, predicted) of counts, coloured by the fraction of each row."""
    from matplotlib.figure import Figure

    size = len(counts)
    fractions = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(max(0.6 * size, 4), 10)
    figure = Figure(figsize=(side + 1, side), layout="tight")
    axes = figure.subplots()
    axes.imshow(fractions.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if size <= MAX_NUMBERED_CLASSES:
        labels = [class_name(label, names) for label in range(size)]
        families, replacements = fonts_for(labels)
        labels = [label.translate(replacements) for label in labels]
        text_options: dict[str, Any] = {"family": families, "parse_math": False}
        axes.set_xticks(range(size), labels, rotation=90 if max(map(len, labels)) > 3 else 0, **text_options)
        axes.set_yticks(range(size), labels, **text_options)
        for row, column in counts.nonzero().tolist():
            colour = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", fontsize=8, color=colour)
    return figure
