"""Print the layers of a net and their sizes."""

import lightning as L
from lightning.pytorch.callbacks import RichModelSummary
from torch import Tensor

from src.models import counting  # noqa: F401  # registers the operations of recurrent layers


class ModelSummary(RichModelSummary):
    """Print the layers and their parameters, with FLOPs and shapes for a single input.

    Args:
        max_depth: how many levels of submodules are shown.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the summary before training; a single image is enough, since Lightning runs it in evaluation mode."""
        example = pl_module.example_input_array
        if isinstance(example, Tensor):
            pl_module.example_input_array = example[:1]
        try:
            super().on_fit_start(trainer, pl_module)
        finally:
            pl_module.example_input_array = example
