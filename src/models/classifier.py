"""Image classification: one label an image."""

import inspect
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from src.models.losses import BALANCED, CrossEntropy
from src.models.metrics import LossAndAccuracy, LossAndBalancedAccuracy
from src.models.schedulers import Schedule
from src.utils.measure import why_not_compilable

log = logging.getLogger(__name__)

Batch = Sequence[Tensor]  # images (B, C, H, W), perhaps further inputs (B, …), and labels last


class Classifier(L.LightningModule):
    """Train any net that maps images (B, C, H, W) to logits (B, num_classes).

    Args:
        net: the net.
        optimizer: called with the parameter groups.
        scheduler: called with the optimizer, `total_steps` and `steps_per_epoch`; see `src.models.schedulers`.
        criterion: called with logits (B, num_classes) and labels (B,); returns the mean loss.
        input_shape: (C, H, W) of an image, for the summary and the graph.
        compile: compile the net with torch.compile before it is trained; "auto": if that works on this machine.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., Schedule] | None,
        criterion: nn.Module,
        input_shape: Sequence[int],
        compile: bool | str = False,
    ) -> None:
        super().__init__()
        self.net = net
        self.criterion = criterion
        self.example_input_array = torch.zeros(2, *input_shape)  # (2, C, H, W)
        if compile not in (True, False, "auto"):
            raise ValueError(f"compile={compile} must be true, false or auto.")
        self._optimizer, self._scheduler, self._compile = optimizer, scheduler, compile
        self.train_metrics = self.make_metrics(LossAndAccuracy)
        self.val_metrics, self.test_metrics = (self.make_metrics(LossAndBalancedAccuracy) for _ in range(2))

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *arguments: Any, **parts: Any) -> Any:
        """Load weights into a model of the net, optimizer and so on that are given, as Lightning does.

        Raises:
            ValueError: none are given; says what builds them, too.
        """
        if not parts:
            raise ValueError(
                f"{cls.__name__}.load_from_checkpoint needs a net and more. To build all from the checkpoint: "
                f"from src.utils.instantiate import load_model; model = load_model({str(checkpoint_path)!r})"
            )
        return super().load_from_checkpoint(checkpoint_path, *arguments, **parts)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the name of the hook that runs without torch's search for parameters: Lightning does so twice a hook."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def make_metrics(self, metric: Callable[[], LossAndAccuracy]) -> Any:
        """The figures of one stage, from what makes those of one head."""
        return metric()

    def forward(self, *inputs: Tensor) -> Any:
        """Map images (B, C, H, W), and further inputs where the net takes them, to logits (B, num_classes)."""
        return self.net(*inputs)

    def setup(self, stage: str) -> None:
        """Before training, balance the class weights and compile the net, where the configuration says so."""
        if stage != "fit":
            return
        if isinstance(self.criterion, CrossEntropy) and self.criterion.balanced:
            self.criterion.balance(self._training_counts())
        if self._compile:
            self._compile_net()

    def _training_counts(self) -> Tensor:
        """The number of training images of each class (num_classes,), from the DataModule."""
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it out of mypy's sight
        if not hasattr(datamodule, "class_counts"):
            raise ValueError(
                f"criterion.weight={BALANCED} asks the data for class_counts(), and {type(datamodule).__name__} has no "
                "such method: write it, or give the weights as a list."
            )
        return datamodule.class_counts()["train"]

    def _compile_net(self) -> None:
        """Compile the net in place, so that parameters keep their names in checkpoints."""
        reason = why_not_compilable(self.net, self.example_input_array) if self._compile == "auto" else None
        if reason is None:
            self.net.compile()
        else:
            log.warning("The net runs uncompiled, for compiling fails here: %s", reason)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch; its curve is logged as often as the trainer says."""
        loss, _ = self.step(batch, self.train_metrics)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it out of mypy's sight
        if every and (self.trainer.global_step + 1) % every == 0:  # each call costs as much as a layer of a small net
            self.log("train/loss_step", loss)
        return loss

    # Lightning looks at each step whether it takes a `batch_idx`, and finds the signature ready
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation figures."""
        self.step(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Add a batch to the test figures; return its logits (B, num_classes) for callbacks to look at."""
        return self.step(batch, self.test_metrics)[1]

    def on_train_epoch_end(self) -> None:
        """Log the mean training loss and accuracy of the epoch."""
        self._log_epoch("train", self.train_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the validation figures."""
        self._log_epoch("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test figures."""
        self._log_epoch("test", self.test_metrics)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Drop the gradients, as `optimizer.zero_grad` does within a tenfold of Python."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients as the trainer says, and do nothing at all where it says nothing."""
        if gradient_clip_val:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def make_optimizer(self) -> Optimizer:
        """Build the optimizer, which decays matrices but not biases and norms.

        Raises:
            ValueError: it refuses one of its numbers.
        """
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in parameters if parameter.ndim >= 2]
        others = [parameter for parameter in parameters if parameter.ndim < 2]
        try:
            return self._optimizer([{"params": decayed}, {"params": others, "weight_decay": 0.0}])
        except ValueError as error:  # of torch, which knows no keys
            raise ValueError(f"model.optimizer: {error}; model/optimizer=adamw has values that work.") from error

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its schedule."""
        optimizer = self.make_optimizer()
        if self._scheduler is None:
            return optimizer
        total_steps = self.trainer.estimated_stepping_batches
        if math.isinf(total_steps):
            raise ValueError("A schedule must know when the run ends: set trainer.max_epochs, or model.scheduler=null.")
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        schedule = self._scheduler(optimizer, total_steps=int(total_steps), steps_per_epoch=steps_per_epoch)
        if "monitor" in schedule:  # a figure that there is after a validation only
            schedule["frequency"] = self.trainer.check_val_every_n_epoch or 1  # null: validation goes by batches
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def step(self, batch: Batch, metrics: Any) -> tuple[Tensor, Any]:
        """Return the loss of a batch and its logits (B, num_classes), and add it to the figures of a stage."""
        *inputs, labels = batch
        logits = self.net(*inputs)  # (B, num_classes)
        loss = self.criterion(logits, labels)
        metrics.update(loss.detach(), logits.detach(), labels)
        return loss, logits

    def _log_epoch(self, stage: str, metrics: Any) -> None:
        self.log_dict({f"{stage}/{name}": value for name, value in metrics.compute().items()}, sync_dist=True)
        metrics.reset()
