"""The base class of all tasks: a net with its loss, metrics, score and output descriptions."""

import inspect
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.optim import Optimizer

from src.models.compiling import why_not_compilable
from src.models.distillation import Distillation
from src.models.example_inputs import example_inputs, moved_to, noise_inputs
from src.models.freezing import Freezing
from src.models.pace import Pace
from src.models.parameter_groups import ParameterGroups
from src.models.schedulers import Schedule

log = logging.getLogger(__name__)

# images (B, C, H, W), series (B, T, F) or tokens (B, T), perhaps further inputs (B, …), and targets (B, …) last
Batch = Sequence[Tensor]
Outputs = dict[str, Tensor]  # by name: (B, …) each


@runtime_checkable
class DescribesInputs(Protocol):
    """A DataModule that describes its inputs, how they are preprocessed, and their labels."""

    def input_card(self) -> dict[str, Any]:
        """Return the `input` and its entries (see `src.predictor`), and `heads`: the class names of each label.

        For an "image", which is assumed without `input`: `mode`, `resize`, `image_size`, `mean` and `std`. For a
        "series": `length`, `features`, `mean` and `std`. For "tokens": `length` and `vocabulary_size`.
        """


@runtime_checkable
class InitializesFromInputs(Protocol):
    """A first layer whose weights are computed once from training inputs, and kept by runs that load them."""

    def is_initialized(self) -> bool:
        """Return whether the weights were computed already, in this run or in the one they were loaded from."""

    def initialize_from(self, inputs: Tensor) -> None:
        """Compute the weights from a batch (B, …)."""


@runtime_checkable
class GrowsImages(Protocol):
    """A DataModule whose training images may be smaller at first, so that validation cannot be compared yet."""

    def trains_below_full_size(self, epoch: int) -> bool:
        """Return whether the training images of an epoch, counted from 0, are smaller than those of later ones."""


class Task(L.LightningModule, ABC):
    """Train a net. Subclasses define what is learnt; callbacks, export and prediction use only this interface.

    Args:
        net: maps inputs (B, …), and further ones if it takes any, to a tensor (B, …) or a dict of tensors.
        optimizer: called with the parameter groups.
        scheduler: called with the optimizer, `total_steps` and `steps_per_epoch`; see `src.models.schedulers`.
        input_shape: (C, H, W) of an image, (T, F) of a series or (T,) of tokens, for the summary and the graph.
        score: the metric by which models are compared, such as `acc` for `val/acc`.
        mode: "max" if a higher score is better, "min" if a lower one is.
        compile: compile the net with torch.compile before training; "auto": if that works on this machine.
        parameter_groups: separate learning rates and weight decays for parts of the net; None: no decay for biases and
            norms.
        freeze: parts of the net that are not trained; see `src.models.freezing`.
        unfreeze: parts of these that are trained from an epoch on.

    Raises:
        ValueError: `mode`, `compile` or `unfreeze` has an invalid value.
    """

    output_name = "output"  # name of the output of a net that returns one tensor
    temperatures: Mapping[str, float] = {}  # by output, for calibrated probabilities; see `with_temperatures`
    baseline: str | None = None  # a metric to compare the score with, such as a simple rule's score on the same data
    distillation: Distillation | None = None  # learn from a teacher, too
    pace: Pace | None = None  # for a run with a time budget, whose number of steps changes during training

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., Schedule] | None,
        input_shape: Sequence[int],
        *,
        score: str,
        mode: str,
        compile: bool | str = False,
        parameter_groups: ParameterGroups | None = None,
        freeze: Sequence[str] = (),
        unfreeze: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("max", "min"):
            raise ValueError(f"mode={mode} must be max or min: whether a higher or a lower {score} is better.")
        if compile not in (True, False, "auto"):
            raise ValueError(f"compile={compile} must be true, false or auto.")
        self.net = net
        self.score, self.mode = score, mode
        self.example_input_array = example_inputs(2, input_shape)  # (2, …)
        self._optimizer, self._scheduler, self._compile = optimizer, scheduler, compile
        self._parameter_groups, self._freezing = parameter_groups or ParameterGroups(), Freezing(freeze, unfreeze)
        self.train_metrics, self.val_metrics, self.test_metrics = map(self.make_metrics, ("train", "val", "test"))

    # ---- what a subclass must implement

    @abstractmethod
    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Return the target (B, …) of each output that has one for a prepared batch, in the order of the outputs.

        Further entries may hold what metrics need, such as a naive forecast.
        """

    @abstractmethod
    def losses(self, outputs: Outputs, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean loss () of each output."""

    @abstractmethod
    def make_metrics(self, stage: str) -> Any:
        """Create the metrics of a stage ("train", "val" or "test"), with `compute` and `reset`."""

    @abstractmethod
    def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Describe each output, for programs that use the trained net without this class.

        Args:
            input_card: the description of the data.

        Returns:
            For each output its `kind` and that kind's fields: `{"kind": "classes", "names": […]}`, `{"kind": "image"}`
            or `{"kind": "vector"}`, whose numbers may be normalised `columns` with `mean` and `std`; see
            `src.predictor`.
        """

    @abstractmethod
    def sample_errors(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the error of each sample of one output (B,): 0 if it is correct, above 0 otherwise."""

    # ---- what a subclass may implement

    def prepare(self, batch: Batch) -> Batch:
        """Turn a batch of the data into inputs and targets, for example add noise; by default return it unchanged.

        The batch may be on another device than the net: samples that are kept for pictures are on the CPU. In training
        (`self.training`) it may draw from torch's global generator, whose state is checkpointed. In evaluation, the
        result for an image must depend on that image alone, because images are batched differently for metrics,
        pictures and exports.
        """
        return batch

    def update_metrics(
        self, metrics: Any, losses: Mapping[str, Tensor], outputs: Outputs, targets: Mapping[str, Tensor]
    ) -> None:
        """Add a batch to the metrics of a stage; here the loss (), output and target (B, …) of a single output."""
        ((name, output),) = outputs.items()
        metrics.update(losses[name], output, targets[name])

    def example_targets(self, outputs: Outputs) -> Tensor:
        """Make dummy targets (B, …) with the shapes of these outputs, to time training steps.

        Labels of 0 by default.
        """
        return torch.zeros(len(next(iter(outputs.values()))), dtype=torch.long)

    def describe_samples(self, output: Tensor, target: Tensor, card: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Describe the result of each sample of one output in plain values; `card` describes the output."""
        return [{"error": error} for error in self.sample_errors(output, target).tolist()]

    def caption(self, description: Mapping[str, Any]) -> str:
        """Turn the description of one sample into a short caption for its picture."""
        return "  ".join(f"{name} {value:.4g}" for name, value in description.items())

    def target_captions(self, targets: Mapping[str, Tensor], cards: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Caption each sample with its target; by default with nothing, since not every target is text."""
        return [""] * len(next(iter(targets.values())))

    def target_panels(self, inputs: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the panels that show training samples, by name; see `panels`."""
        return {"input": inputs}

    def panels(self, inputs: Tensor, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the panels that show each sample's result, by name.

        They are images (B, C, H, W), series (B, T, F) or tokens (B, T). Series are drawn as curves of up to 4 features;
        NaN is skipped.
        """
        return {"input": inputs}

    def confusion(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Return the confusion matrix (num_classes, num_classes), rows are true classes; None without classes."""
        return None

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the losses of the outputs into the loss () to minimise."""
        (loss,) = losses.values()
        return loss

    # ---- what all tasks share

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *arguments: Any, **parts: Any) -> Any:
        """Build the task from the given net, optimizer, … and load the weights, as Lightning does.

        Raises:
            ValueError: no net is given; the message names the function that builds everything from the checkpoint.
        """
        if not parts:
            raise ValueError(
                f"{cls.__name__}.load_from_checkpoint needs the net, optimizer, …. To build them from the checkpoint: "
                f"from src.run.instantiate import load_model; model = load_model({str(checkpoint_path)!r})"
            )
        return super().load_from_checkpoint(checkpoint_path, *arguments, **parts)

    def __setattr__(self, name: str, value: Any) -> None:
        """Bypass nn.Module's slow attribute setting for the hook name, which Lightning sets twice per hook."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, *inputs: Tensor) -> Any:
        """Map inputs (B, …), and further ones if the net takes any, to what the net returns."""
        return self.net(*inputs)

    def named_outputs(self, *inputs: Tensor) -> Outputs:
        """Map inputs (B, …), and further ones if the net takes any, to outputs (B, …) by name."""
        outputs = self.net(*inputs)
        return outputs if isinstance(outputs, dict) else {self.output_name: outputs}

    def card(self, input_card: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a program needs to use the trained net: its preprocessing, outputs and score."""
        inputs = {key: value for key, value in input_card.items() if key != "heads"}
        outputs = with_temperatures(self.output_card(input_card), self.temperatures)
        return {**inputs, "outputs": outputs, "score": self.score}

    def example_batch(self, batch_size: int) -> Batch:
        """Make a batch of noise to time train steps with: inputs (B, …) and matching targets."""
        assert isinstance(self.example_input_array, Tensor)
        inputs = noise_inputs(batch_size, self.example_input_array.shape[1:])
        outputs = self.example_outputs()
        expanded = {name: output[:1].expand(batch_size, *output.shape[1:]) for name, output in outputs.items()}
        return inputs, self.example_targets(expanded)

    def example_outputs(self) -> Outputs:
        """Return the net's outputs for `example_input_array`, mainly for their shapes."""
        assert isinstance(self.example_input_array, Tensor)
        inputs = moved_to(self.net, self.example_input_array)
        training = self.net.training
        self.net.eval()
        with torch.no_grad():
            outputs = self.named_outputs(inputs)
        self.net.train(training)
        return outputs

    def finished_fraction(self) -> float:
        """Return the fraction of the run's steps that are done; 0 for a run without an end, or without a trainer."""
        if self.pace is not None:
            return self.pace.finished_fraction(self.global_step)
        if self._trainer is None:
            return 0.0
        steps = self.trainer.estimated_stepping_batches
        return self.global_step / steps if steps > 0 else 0.0  # -1: data of unknown length

    def data_card(self) -> dict[str, Any]:
        """Return the description of the trainer's data; empty if there is none."""
        if self._trainer is None:
            return {}
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set dynamically by Lightning
        return datamodule.input_card() if isinstance(datamodule, DescribesInputs) else {}

    def setup(self, stage: str) -> None:
        """Before training, initialise layers from inputs, freeze parts, set up the teacher and compile the net.

        Raises:
            ValueError: `unfreeze` is set for a run with several processes.
        """
        if stage != "fit":
            return
        if self._freezing.unfreeze and self.trainer.world_size > 1:  # DDP would not synchronise their gradients
            raise ValueError("model.unfreeze works in a single process only: set trainer.devices=1.")
        self._initialize_from_inputs()
        self._freezing.start(self.net)
        if self.distillation is not None:
            card = self.data_card()
            self.distillation.setup(self.card(card) if card else {})
        if self._compile:
            self._compile_net()

    def _initialize_from_inputs(self) -> None:
        """Initialise the layers whose weights are computed from a training batch, unless that was done before.

        A resumed run overwrites these weights, since its checkpoint is loaded later.

        Raises:
            ValueError: there is no DataModule to take a batch from.
        """
        layers = [one for one in self.net.modules() if isinstance(one, InitializesFromInputs)]
        layers = [one for one in layers if not one.is_initialized()]
        if not layers:
            return
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set dynamically by Lightning
        if datamodule is None:
            raise ValueError(
                f"{type(layers[0]).__name__} is initialised from the data: give the trainer a datamodule instead of "
                "loaders."
            )
        with isolate_rng():
            inputs = next(iter(datamodule.train_dataloader()))[0]
        for layer in layers:
            layer.initialize_from(inputs)

    def teardown(self, stage: str) -> None:
        """End the freezing after training."""
        if stage == "fit":
            self._freezing.end(self.net)

    def _compile_net(self) -> None:
        """Compile the net in place, so that parameters keep their names in checkpoints."""
        reason = None
        if self._compile == "auto":
            device = self.trainer.strategy.root_device  # where the net will be moved to
            reason = why_not_compilable(self.net, self.example_input_array, device=device)
        if reason is None:
            self.net.compile()
        else:
            log.warning("The net runs uncompiled because torch.compile fails here: %s", reason)

    def on_train_start(self) -> None:
        """Freeze the parts that are frozen in this epoch; a resumed run may start in the middle of it."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Freeze the parts that are frozen in this epoch."""
        self._freezing.begin_epoch(self.net, self.current_epoch + 1)

    def step(self, batch: Batch, metrics: Any) -> tuple[Tensor, Outputs]:
        """Compute the loss () and outputs (B, …) of a batch of the data, and add them to the metrics of a stage."""
        batch = self.prepare(batch)
        outputs, targets = self.named_outputs(*batch[:-1]), self.targets(batch)
        losses = self.losses(outputs, targets)
        if self.distillation is not None and self.training:
            losses = self.distillation(losses, outputs, *batch[:-1])
        detached = {name: output.detach() for name, output in outputs.items()}
        self.update_metrics(metrics, {name: loss.detach() for name, loss in losses.items()}, detached, targets)
        return self.total_loss(losses), outputs

    def check_prepare(self, batch: Batch) -> None:
        """Check that `prepare` returns the same for a sample in a batch as for the sample alone, in evaluation.

        Raises:
            ValueError: it does not, so that metrics, pictures and exports would disagree.
        """
        prepared = self.prepare(batch)
        if prepared is batch:
            return
        for row in range(min(len(batch[0]), 8)):
            alone = self.prepare([part[row : row + 1] for part in batch])
            if not all(torch.allclose(one[0], many[row]) for one, many in zip(alone, prepared, strict=True)):
                raise ValueError(
                    f"{type(self).__name__}.prepare returns something else for an image each time, or depending on the "
                    "rest of its batch: in evaluation, its result must depend on the image alone; see docs/extend.md."
                )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and log it every `log_every_n_steps`."""
        loss, _ = self.step(batch, self.train_metrics)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set dynamically by Lightning
        if every and (self.trainer.global_step + 1) % every == 0:  # each call costs as much as a layer of a small net
            self.log("train/loss_step", loss)
        return loss

    # Lightning inspects the signature at every step, which is faster if it is stored
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate(batch, batch_idx, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Add a batch to the test metrics, and return its outputs for callbacks."""
        return self._evaluate(batch, batch_idx, self.test_metrics)

    def _evaluate(self, batch: Batch, batch_idx: int, metrics: Any) -> Outputs:
        """Add a batch to the metrics of an evaluation, and return its outputs."""
        if batch_idx == 0:
            self.check_prepare(batch)
        return self.step(batch, metrics)[1]

    def on_train_epoch_end(self) -> None:
        """Log the training metrics of the epoch."""
        self._log_epoch("train", self.train_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_epoch("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_epoch("test", self.test_metrics)

    def _log_epoch(self, stage: str, metrics: Any) -> None:
        self.log_dict({f"{stage}/{name}": value for name, value in metrics.compute().items()}, sync_dist=True)
        metrics.reset()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Set all gradients to None, like `optimizer.zero_grad` but with a tenth of its Python overhead."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients only if the trainer is configured to."""
        if gradient_clip_val:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def make_optimizer(self) -> Optimizer:
        """Build the optimizer of all parameters that are trained, now or in a later epoch.

        Raises:
            ValueError: the optimizer rejects one of its arguments, or a pattern matches no parameter.
        """
        named = {name.removeprefix("net."): parameter for name, parameter in self.named_parameters()}
        trained = {
            name: parameter
            for name, parameter in named.items()
            if parameter.requires_grad or name in self._freezing.names
        }
        return self._parameter_groups.build(self._optimizer, self.net, trained)

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its learning-rate schedule."""
        optimizer = self.make_optimizer()
        if self._scheduler is None:
            return optimizer
        self.trainer.fit_loop.setup_data()  # counts the batches; the estimate below does so only if it needs them
        total_steps = self.pace.schedule_steps if self.pace else self.trainer.estimated_stepping_batches
        batches = self.trainer.num_training_batches
        if math.isinf(batches):
            raise ValueError(
                "A schedule needs the length of an epoch, which the training data do not provide: set "
                "trainer.limit_train_batches to a number of batches, or model.scheduler=null."
            )
        if math.isinf(total_steps):
            raise ValueError(
                "A schedule needs the length of the run: set trainer.max_epochs or trainer.max_steps, or "
                "model.scheduler=null."
            )
        steps_per_epoch = math.ceil(batches / self.trainer.accumulate_grad_batches)
        schedule = self._scheduler(optimizer, total_steps=int(total_steps), steps_per_epoch=steps_per_epoch)
        if "monitor" in schedule:  # a metric that exists only after validation
            # null: validation is scheduled by batches
            schedule["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a schedule; move one that is stepped each step to its position by the run's pace, if there is one.

        A schedule that follows a metric waits until training images have their full size.
        """
        if metric is not None and self.trains_below_full_size():
            return
        configs = self.trainer.lr_scheduler_configs if self.pace is not None else []
        if self.pace is not None and any(one.scheduler is scheduler and one.interval == "step" for one in configs):
            scheduler.last_epoch = self.pace.position(self.global_step) - 1  # `step` adds 1
        super().lr_scheduler_step(scheduler, metric)

    def trains_below_full_size(self) -> bool:
        """Return whether the training images of this epoch are smaller than those of later ones."""
        datamodule = getattr(self.trainer, "datamodule", None)  # set dynamically by Lightning
        return isinstance(datamodule, GrowsImages) and datamodule.trains_below_full_size(self.current_epoch)


def with_temperatures(
    outputs: Mapping[str, Mapping[str, Any]], temperatures: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Add to the description of each output the temperature by which its logits are divided, if it has one.

    Raises:
        ValueError: a temperature is given for an unknown output.
    """
    if unknown := [name for name in temperatures if name not in outputs]:
        raise ValueError(f"A temperature is given for {unknown[0]}, but the net outputs {', '.join(outputs)}.")
    return {
        name: {**output, **({"temperature": temperatures[name]} if name in temperatures else {})}
        for name, output in outputs.items()
    }
