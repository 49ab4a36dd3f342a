"""Test-time augmentation: test with several views of each image, as an additional metric."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from src.callbacks.image_report import as_task, output_cards
from src.models.task import Outputs, Task


class AveragedViews(L.Callback):
    """Average the logits over views of each test image, and log their accuracy as `test/acc_tta`.

    The views are those of Jordan 2024 (arXiv 2404.00498). The other metrics use the plain images only. With several
    outputs, their accuracies are averaged.

    Args:
        flip: add the horizontal mirror image of each view, with the same weight.
        shift: add two views, shifted by this many pixels to the upper left and the lower right, with a quarter of the
            weight each; pixels beyond the border are reflected.

    Raises:
        ValueError: `flip` and `shift` add no view, or the task does not predict classes of images.
    """

    def __init__(self, flip: bool = False, shift: int = 0) -> None:
        if shift < 0:
            raise ValueError(f"tta.shift={shift} must not be negative.")
        if not flip and not shift:
            raise ValueError("tta.flip=false and tta.shift=0 leave a single view: set one of them, or tta=none.")
        self.flip, self.shift = flip, shift
        self._correct: dict[str, Tensor] = {}  # by output: number of images ()
        self._count = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check, before training, that the views can be averaged.

        Raises:
            ValueError: the task does not predict classes of images.
        """
        task = as_task(pl_module)
        example = task.example_input_array
        cards = output_cards(trainer, task).values()
        if not isinstance(example, Tensor) or example.ndim != 4 or any(card["kind"] != "classes" for card in cards):
            raise ValueError(
                f"tta averages predicted classes of images, which {type(task).__name__} does not predict here: set "
                "tta=none."
            )
        size = min(example.shape[2:])
        if self.shift >= size:
            raise ValueError(f"tta.shift={self.shift} must be less than the {size} pixels of an image.")

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reset the counts."""
        self._correct, self._count = {}, 0

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the correct predictions of a batch."""
        task = as_task(pl_module)
        batch = task.prepare(batch)
        with trainer.precision_plugin.test_step_context():
            logits = self.logits(task, *batch[:-1], plain=outputs)
        for name, labels in task.targets(batch).items():
            correct = (logits[name].argmax(dim=1) == labels).sum()
            self._correct[name] = self._correct.get(name, 0) + correct
        self._count += len(batch[0])

    def logits(self, task: Task, images: Tensor, *others: Tensor, plain: Outputs | None = None) -> dict[str, Tensor]:
        """Return the mean logits (B, num_classes) of the views of images (B, C, H, W), by output.

        The first view is the images themselves; `plain`: the net's outputs for them, if they are known.
        """
        total: dict[str, Tensor] = {}
        for view, weight in self.views(images):
            known = plain if view is images else None
            for name, logits in (known or task.named_outputs(view, *others)).items():
                total[name] = total.get(name, 0) + weight * logits.float()
        return total

    def views(self, images: Tensor) -> Iterator[tuple[Tensor, float]]:
        """Yield the views (B, C, H, W) of images, and their weights, which sum to 1."""
        height, width = images.shape[2:]
        shifted = [(images, 0.5 if self.shift else 1.0)]
        if self.shift:
            padded = F.pad(images, [self.shift] * 4, mode="reflect")
            end = 2 * self.shift
            shifted += [(padded[:, :, y : y + height, x : x + width], 0.25) for y, x in ((0, 0), (end, end))]
        for view, weight in shifted:
            yield view, weight / 2 if self.flip else weight
            if self.flip:
                yield view.flip(3), weight / 2

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the accuracy over the images of all processes."""
        if not self._count:
            return
        correct = torch.stack(list(self._correct.values())).sum()
        counts = torch.stack([correct, correct.new_tensor(self._count * len(self._correct))])
        correct, count = trainer.strategy.reduce(counts, reduce_op="sum").unbind()
        pl_module.log("test/acc_tta", correct / count, sync_dist=True)
