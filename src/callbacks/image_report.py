"""Pictures of a run: what the net is shown, what it confuses, where it fails worst."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from src.utils.fonts import fonts_for
from src.utils.json_files import read_json, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEST_REPORT = "test_report.json"
MAX_PIXELS = 64  # of an image in the report of the test
MAX_NUMBERED_CLASSES = 20  # above this a confusion matrix has no room for figures and names


class HeadResults:
    """Counts the predictions of one head and keeps its worst mistakes.

    Args:
        num_mistakes: how many mistakes to keep.
    """

    def __init__(self, num_mistakes: int) -> None:
        self.num_mistakes = num_mistakes
        self.counts: Tensor | int = 0  # (num_classes, num_classes), rows: true
        self.mistakes: list[Tensor] = []  # images (M, C, H, W), labels, predictions and confidences (M,)

    def update(self, images: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: images (B, C, H, W), logits (B, num_classes), labels (B,)."""
        num_classes = logits.shape[1]
        confidence, predicted = logits.float().softmax(dim=1).max(dim=1)  # (B,) each
        pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
        self.counts = self.counts + pairs.view(num_classes, num_classes)
        wrong = predicted != labels
        mistakes = [images[wrong], labels[wrong], predicted[wrong], confidence[wrong]]
        if self.mistakes:
            mistakes = [torch.cat(pair) for pair in zip(self.mistakes, mistakes, strict=True)]
        worst = mistakes[3].argsort(descending=True)[: self.num_mistakes]
        self.mistakes = [part[worst] for part in mistakes]


class ImageReport(L.Callback):
    """Log a grid of training samples after the first epoch, and confusions and worst mistakes after the test.

    TensorBoard gets pictures; confusions and mistakes are also written to `test_report.json`, for pages such as that of
    `src/compare.py`. The worst mistakes are those the net was surest of. Under DDP they are those of the first process,
    while the confusion matrix counts the samples of all.

    Args:
        num_images: images in a grid.
        dirpath: where the report of the test goes; None: nowhere.
    """

    def __init__(self, num_images: int = 36, dirpath: str | None = None) -> None:
        if num_images < 1:
            raise ValueError(f"num_images={num_images} must be at least 1.")
        self.num_images, self.dirpath = num_images, dirpath
        self._samples: tuple[Tensor, Tensor] | None = None
        self._samples_logged = False
        self._results: dict[str, HeadResults] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check, before the training, that no other file has the name of the report.

        Raises:
            ValueError: one has.
        """
        if self.dirpath is None:
            return
        path = Path(self.dirpath, TEST_REPORT)
        if path.exists() and "heads" not in read_json(path):
            raise ValueError(
                f"{path} is no report of a test and is not replaced: name another callbacks.image_report.dirpath."
            )

    def state_dict(self) -> dict[str, Any]:
        """Remember in which folder the training samples have been logged."""
        return {"samples_logged_in": self.dirpath if self._samples_logged else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Skip the samples in a resumed run, for they take seconds; a run in another folder logs its own."""
        logged_in = state_dict["samples_logged_in"]
        self._samples_logged = logged_in is not None and logged_in == self.dirpath

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the first images that the net is trained on."""
        if self._samples is None and not self._samples_logged:
            images, *_, labels = batch
            self._samples = images[: self.num_images].cpu(), labels[: self.num_images].cpu()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log them; not before the first step, which they would delay."""
        if self._samples is not None:
            images, labels = self._samples
            names = class_names(trainer)
            titles = [
                " / ".join([name_of(first, names), *map(str, others)])  # one label, or one for each head
                for first, *others in labels.view(len(labels), -1).tolist()
            ]
            self._log(trainer, "train/samples", lambda: image_grid(images, titles))
            self._samples, self._samples_logged = None, True

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
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
        """Look at a batch. `outputs` are the logits (B, num_classes), or a dict of each head's."""
        images, *_, labels = batch
        heads = outputs if isinstance(outputs, dict) else {"": outputs}
        columns = labels.view(len(labels), -1).unbind(dim=1)  # (B,) each
        for (name, logits), head_labels in zip(heads.items(), columns, strict=True):
            self._results.setdefault(name, HeadResults(self.num_images)).update(images, logits, head_labels)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the confusion matrix and the worst mistakes, of each head where there are several; write them down."""
        report = {}
        for number, (head, results) in enumerate(self._results.items()):
            prefix = f"test/{head}/" if head else "test/"
            names = class_names(trainer) if number == 0 else None  # further heads number their classes
            assert isinstance(results.counts, Tensor)
            counts = trainer.strategy.reduce(results.counts, reduce_op="sum").cpu()
            self._log(trainer, f"{prefix}confusion_matrix", lambda c=counts, n=names: confusion_figure(c, n))
            images, labels, predicted, confidence = (part.cpu() for part in results.mistakes)
            mistakes = [
                (name_of(label, names), name_of(guess, names), sure)
                for label, guess, sure in zip(labels.tolist(), predicted.tolist(), confidence.tolist(), strict=True)
            ]
            if mistakes:
                titles = [f"{label}, not\n{guess} {sure:.0%}" for label, guess, sure in mistakes]
                self._log(trainer, f"{prefix}worst_mistakes", lambda i=images, t=titles: image_grid(i, t))
            report[head or "test"] = {
                "classes": [name_of(label, names) for label in range(len(counts))],
                "counts": counts.tolist(),  # rows: true
                "mistakes": [
                    {"label": label, "predicted": guess, "confidence": sure, "png": png}
                    for (label, guess, sure), png in zip(mistakes, pngs(images), strict=True)
                ],
            }
        if self.dirpath is not None and trainer.is_global_zero and report:
            Path(self.dirpath).mkdir(parents=True, exist_ok=True)
            write_json(Path(self.dirpath) / TEST_REPORT, {"heads": report})

    @staticmethod
    def _log(trainer: L.Trainer, tag: str, draw: Any) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.add_figure(tag, draw(), global_step=trainer.global_step)


def class_names(trainer: L.Trainer) -> list[str] | None:
    """The names of the classes, where the DataModule tells them."""
    datamodule = getattr(trainer, "datamodule", None)  # Lightning sets it out of mypy's sight
    names = getattr(datamodule, "class_names", None)  # and a DataModule need not name its classes
    return list(names) if names else None


def name_of(label: int, names: list[str] | None) -> str:
    """The name of a class, or its number where it has none."""
    return names[label] if names and label < len(names) else str(label)


def displayed(images: Tensor) -> Tensor:
    """Images (N, C, H, W) of any range as they are shown: (N, H, W, C) from 0 to 1."""
    low, high = images.amin(dim=(0, 2, 3), keepdim=True), images.amax(dim=(0, 2, 3), keepdim=True)
    return ((images - low) / (high - low).clamp(min=1e-6)).permute(0, 2, 3, 1)


def pngs(images: Tensor) -> list[str]:
    """Each of the images (N, C, H, W), not larger than a thumbnail, as PNG in base64."""
    from PIL import Image

    if not len(images):
        return []
    found = []
    for pixels in (displayed(images.float()) * 255).round().byte().numpy():  # (H, W, C)
        picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels[..., :3])
        picture.thumbnail((MAX_PIXELS, MAX_PIXELS))
        content = io.BytesIO()
        picture.save(content, format="PNG")
        found.append(base64.b64encode(content.getvalue()).decode())
    return found


def image_grid(images: Tensor, titles: list[str]) -> "Figure":
    """Draw (N, C, H, W) of any range, each under its title, in a grid that is about square."""
    from matplotlib.figure import Figure  # 0.5 s, and only for those who want pictures

    families, written = fonts_for(titles)
    columns = max(round(len(images) ** 0.5), 1)
    rows = -(-len(images) // columns)
    cell = 1 + 0.32  # the height of an image of width 1 with its title
    figure = Figure(figsize=(1.3 * columns, 1.3 * cell * rows))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all images: an Axes for each would take a second
    for index, (picture, title) in enumerate(zip(displayed(images).numpy(), titles, strict=False)):
        x, y = index % columns, index // columns * cell
        grey = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(x + 0.04, x + 0.96, y + cell - 0.04, y + cell - 0.96))
        place = (x + 0.5, y + cell - 0.98)
        axes.text(*place, title.translate(written), fontsize=8, ha="center", va="bottom", family=families)
    axes.set(xlim=(0, columns), ylim=(rows * cell, 0), aspect="auto")
    axes.set_axis_off()
    return figure


def confusion_figure(counts: Tensor, names: list[str] | None) -> "Figure":
    """Draw a confusion matrix (true, predicted) of counts; a row is coloured by its shares."""
    from matplotlib.figure import Figure

    size = len(counts)
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(max(0.6 * size, 4), 10)
    figure = Figure(figsize=(side + 1, side), layout="tight")
    axes = figure.subplots()
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if size <= MAX_NUMBERED_CLASSES:
        labels = [name_of(label, names) for label in range(size)]
        families, written = fonts_for(labels)
        labels = [label.translate(written) for label in labels]
        axes.set_xticks(range(size), labels, rotation=90 if max(map(len, labels)) > 3 else 0, family=families)
        axes.set_yticks(range(size), labels, family=families)
        for row, column in counts.nonzero().tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", fontsize=8, color=colour)
    return figure
