"""Use this project from Python: train, open runs, predict with them, compare them; see docs/python.md.

    from src.api import compose, load_run, runs, train

    run = train("model=mnist_cnn_68k", "data=mnist_5k", "trainer.max_epochs=3")
    run.predict("photo.png").classes
    runs("logs/train")[["model", "test/acc"]]

A run made here is the same as that of `python src/train.py` with the same overrides: the same folder, files and
weights. It can be resumed, tested and compared from Python and from the command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from src.cards.comparison import named_choices
from src.cli.in_process import RunInterrupted, compose_program, run_program
from src.config.changes import overrides_of
from src.config.paths import ROOT
from src.config.targets import check_targets
from src.report.run_files import read_metrics
from src.report.runs import folders_with
from src.run.file_names import CHECKPOINTS, RECORD
from src.run.reuse import reusable_config
from src.run.run import Run as RunFolder
from src.train import main

if TYPE_CHECKING:  # their imports take seconds
    import numpy as np
    from pandas import DataFrame
    from torch import Tensor, nn

    from src.deploy.predictions import Predictions
    from src.models.task import Task
    from src.predictor import Predictor

__all__ = ["Exported", "Run", "RunInterrupted", "TestSet", "compose", "load_exported", "load_run", "runs", "train"]

RUNS = ROOT / "logs" / "train"


class TestSet(NamedTuple):
    """The test set of a run, as it was used for testing.

    Args:
        images: inputs of `Run.predict` (N, …): 8-bit images (N, C, H, W), series in the units of the data, or tokens.
        labels: the targets (N, …), as the DataModule returns them: class indices, masks or normalised series.
        inputs: inputs of the net (N, …): the same as `images`, normalised.
        names: the class names of each label that has classes.
    """

    images: "np.ndarray"
    labels: "np.ndarray"
    inputs: "Tensor"
    names: dict[str, list[str]]


@dataclass(frozen=True)
class Run:
    """A training run.

    Args:
        folder: the run directory.
        ckpt_path: the checkpoint to use; None: the best one.
        allowed_targets: packages whose classes it may use besides this project's, for code that you trust.
    """

    folder: Path
    ckpt_path: Path | None = None
    allowed_targets: tuple[str, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """Return its metrics, such as `test/acc`; empty if it has not finished."""
        return read_metrics(self.folder)

    @property
    def record(self) -> dict[str, Any]:
        """Return how it was made: command, commit, versions, seed; see `run.json`."""
        return self._files.record

    @cached_property
    def config(self) -> DictConfig:
        """Return its resolved configuration."""
        return OmegaConf.create(self._files.config())

    @property
    def checkpoint(self) -> Path:
        """Return its best checkpoint, or `ckpt_path` if that is given.

        Raises:
            FileNotFoundError: it has none.
        """
        return self._files.best_checkpoint()

    @cached_property
    def model(self) -> "Task":
        """Return its task, a LightningModule, with the weights of the checkpoint, in evaluation mode.

        Raises:
            FileNotFoundError: it has no checkpoint.
            ValueError: the checkpoint is damaged, or the run names a class that is not allowed.
        """
        from src.run.instantiate import build_trained_model

        return build_trained_model(self._reused, self.checkpoint)

    @property
    def net(self) -> "nn.Module":
        """Return its net, which maps inputs (B, …) to the outputs that `model.named_outputs` names."""
        return self.model.net

    def predict(self, x: Any, top: int = 1, calibrated: bool = False) -> "Predictions":
        """Predict one input or several.

        Args:
            x: a file, folder or pattern such as "shots/*.png"; a PIL image; an array or tensor of one image or several;
                or a list of these. Preprocessing is that of the run. See `src.deploy.predictions.predict`.
            top: the number of classes in a row.
            calibrated: calibrate probabilities with the temperature that `src/explain.py` has fitted to the run.

        Returns:
            A row for each input (`run.predict(x)[0]`), and arrays over all inputs: `.classes` and
            `.probabilities` of a classifier, and `.outputs` by name of any net.
        """
        from src.deploy.predictions import predict
        from src.deploy.serving import predictor_of_task

        predictor = predictor_of_task(self.model, self._reused, self.checkpoint, calibrated)
        return predict(predictor, x, top)

    def test_set(self) -> TestSet:
        """Read its test set, with the preprocessing and limits that were used for testing.

        Raises:
            ValueError: the data do not describe themselves, or there is no test data.
        """
        import torch

        from src.deploy.exporting import Limited
        from src.models.example_inputs import padded_to
        from src.predictor import input_shape
        from src.run.instantiate import build_datamodule

        datamodule = build_datamodule(self._reused)
        limit = OmegaConf.select(self._reused, "trainer.limit_test_batches")
        loader = datamodule.test_dataloader()
        batches = list(loader if limit is None else Limited(loader, limit))
        if not batches:
            raise ValueError(f"{self.folder} was not tested: its test set is empty, or limited to nothing.")
        card = datamodule.input_card()
        inputs = torch.cat([padded_to(input_shape(card), batch[0]) for batch in batches])  # texts vary in length
        labels = torch.cat([batch[-1] for batch in batches])
        names = {name: list(classes) for name, classes in card.get("heads", {}).items()}
        return TestSet(unnormalised(inputs.numpy(), card), labels.numpy(), inputs, names)

    def card(self, batch_size: int = 1, timing: bool = False) -> dict[str, Any]:
        """Describe its net layer by layer, as `src/describe.py` does.

        Args:
            batch_size: the number of inputs to count memory for.
            timing: measure the latency, and the share of each layer in it.
        """
        from src.cards.card import make_card

        names = named_choices(self.record)
        return make_card(self.model, **names, batch_size=batch_size, timing=timing, seconds=1.0, run=self.folder)

    def export(self, format: str = "onnx", precision: str = "int8", *overrides: str) -> "Exported":
        """Write its net in a format that other programs load, to `export/<format>_<precision>/` of its folder.

        Args:
            format: "openvino", "onnx" or "torch".
            precision: "fp32", "int8" or "bf16".
            overrides: other overrides of `python src/export.py`, such as "quantization.max_drop=1".

        Raises:
            ModuleNotFoundError: the format needs a package that is not installed.
            ValueError: the exported model disagrees with the net on the test images, or an override is invalid.
        """
        from src.export import main as export_main

        chosen = f"ckpt_path={self.ckpt_path}" if self.ckpt_path else f"run_dir={self.folder}"
        trusted = [f"allowed_targets=[{','.join(self.allowed_targets)}]"] if self.allowed_targets else []
        arguments = [chosen, f"formats=[{format}]", f"precisions=[{precision}]", *trusted, *overrides]
        run_program(export_main, "export", arguments)
        return load_exported(self.folder / "export" / f"{format}_{precision}", trusted=True)

    @property
    def _files(self) -> RunFolder:
        return RunFolder(self.folder, self.ckpt_path)

    @cached_property
    def _reused(self) -> DictConfig:
        """Return the part of its configuration that is reused; raise ValueError for classes that are not allowed."""
        config = reusable_config(self._files)
        check_targets({key: config[key] for key in ("model", "data")}, self.allowed_targets)
        return OmegaConf.create(config)

    def _repr_html_(self) -> None:
        """Return nothing, so that notebooks show `__repr__`."""

    def __repr__(self) -> str:
        score = {name: round(value, 4) for name, value in self.metrics.items() if name.startswith("test/")}
        return f"Run({str(self.folder)!r}, {score})"


@dataclass(frozen=True)
class Exported:
    """An exported model, which does not depend on this project.

    Args:
        folder: its folder, which has its own `predict.py`.
        predictor: see `src.predictor.load`.
    """

    folder: Path
    predictor: "Predictor"

    @property
    def card(self) -> dict[str, Any]:
        """Return its description: inputs, outputs, format, precision, `size_bytes`, and `test_<score>`."""
        return dict(self.predictor.card)

    def predict(self, x: Any, top: int = 1) -> "Predictions":
        """Predict one input or several; see `Run.predict`. It is calibrated if the export was."""
        from src.deploy.predictions import predict

        return predict(self.predictor, x, top)

    def __repr__(self) -> str:
        return f"Exported({str(self.folder)!r})"


def load_exported(folder: str | Path, trusted: bool = False) -> Exported:
    """Open an exported model.

    Args:
        folder: as for `load_run`.
        trusted: allow torch models, which may run code when they are loaded.

    Raises:
        FileNotFoundError, ValueError, ModuleNotFoundError: see `src.predictor.load`.
    """
    from src.predictor import load

    return Exported(resolve_path(folder), load(resolve_path(folder), trusted=trusted))


def load_run(path: str | Path | None = None, allowed_targets: tuple[str, ...] = ()) -> Run:
    """Open a run.

    Args:
        path: its folder or one of its checkpoints, relative to the current folder or else to this checkout; None: the
            newest run of `logs/train` that has a checkpoint.
        allowed_targets: see `Run`.

    Raises:
        FileNotFoundError: there is none.
    """
    if path is None:
        records = sorted(
            (folder / RECORD for folder in folders_with((RECORD,), RUNS)), key=lambda file: file.stat().st_mtime
        )
        trained = [file.parent for file in records if any((file.parent / CHECKPOINTS).glob("*.ckpt"))]
        if not trained:
            raise FileNotFoundError(f"There is no run in {RUNS} yet: train one, or name its folder.")
        return Run(trained[-1], None, allowed_targets)
    resolved = resolve_path(path)
    if resolved.is_file():
        return Run(resolved.parent.parent, resolved, allowed_targets)
    if not (resolved / RECORD).is_file() and not (resolved / CHECKPOINTS).is_dir():
        raise FileNotFoundError(f"{path} is not the folder of a run, nor a checkpoint; runs are in logs/train/runs/.")
    return Run(resolved, None, allowed_targets)


def runs(*folders: str | Path) -> "DataFrame":
    """Return the runs in and below folders as a table: their settings, status and metrics, indexed by folder.

    Args:
        folders: by default `logs/train`, with all runs and sweeps.

    Raises:
        FileNotFoundError, ValueError: there is no such folder, or no run in it.
        ModuleNotFoundError: pandas is not installed.
    """
    from src.report.frame import runs_frame

    return runs_frame([str(resolve_path(folder)) for folder in folders or (RUNS,)])


def compose(*overrides: str) -> DictConfig:
    """Compose the configuration of a training run, as `python src/train.py` does with the same overrides.

    Values may be changed before it is passed to `train`. Groups can be chosen only here: one choice may bring others.

    Raises:
        ValueError: an override is invalid.
    """
    return compose_program(main, "train", overrides)


def train(*overrides: DictConfig | Mapping[str, Any] | str) -> Run:
    """Train, test the best checkpoint, and return the run.

    In a notebook, the curves of the loss and the score are drawn during training. Ctrl-C, or interrupting the kernel,
    saves the run.

    Args:
        overrides: overrides, or a configuration that `compose` returned; `resume=<run>` continues a run.

    Raises:
        RunInterrupted: by Ctrl-C; the message says how to resume, and `folder` is the run's folder.
        ValueError: an override is invalid. Other exceptions come from the run; their traces are in its folder.
    """
    arguments: list[str] = []
    for one in overrides:
        if isinstance(one, str):
            arguments.append(one)
        else:
            arguments += overrides_of(one, compose)
    return load_run(run_program(main, "train", arguments))


def resolve_path(path: str | Path) -> Path:
    """Resolve a path relative to the current folder or, if it does not exist there, to this checkout."""
    path = Path(path).expanduser()
    return path if path.exists() or not (ROOT / path).exists() else ROOT / path


def unnormalised(inputs: "np.ndarray", card: Mapping[str, Any]) -> "np.ndarray":
    """Undo the normalisation of inputs (N, …) that a card describes, to 8-bit pixels or the units of series."""
    import numpy as np

    if "mean" not in card:
        return inputs
    is_image = inputs.ndim == 4
    shape = (-1, 1, 1) if is_image else (-1,)
    mean, std = (np.asarray(card[key], np.float32).reshape(shape) for key in ("mean", "std"))
    values = inputs * std + mean
    return (values * 255).round().clip(0, 255).astype(np.uint8) if is_image else values
