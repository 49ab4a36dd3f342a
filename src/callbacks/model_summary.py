"""The layers of a net with their sizes."""

import lightning as L
from lightning.pytorch.callbacks import RichModelSummary
from torch import Tensor


class ModelSummary(RichModelSummary):
    """Print the layers, their parameters, and the FLOPs and shapes of a single image, whatever batch the example is.

    Args:
        max_depth: how many levels of submodules are shown.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print them before training; Lightning runs the example in evaluation mode, so BatchNorm can do with one."""
        example = pl_module.example_input_array
        if isinstance(example, Tensor):
            pl_module.example_input_array = example[:1]
        try:
            super().on_fit_start(trainer, pl_module)
        finally:
            pl_module.example_input_array = example
