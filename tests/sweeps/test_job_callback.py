"""A job of a sweep reports its progress during training, and a study can prune it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import pytest
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import Checkpoint

from src.config.paths import CONFIGS
from src.data.in_memory import InMemoryDataModule
from src.run.interruption import Pruned
from src.sweeps.job_callback import SweepJob

optuna = pytest.importorskip("optuna", reason="studies need the extra [sweep]")
from src.sweeps.study import open_study


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., SweepJob]:
    """Make the folder of a job, optionally of a study."""

    def make(**study: Any) -> SweepJob:
        (tmp_path / "job.json").write_text(json.dumps({"study": study} if study else {}))
        return SweepJob(str(tmp_path))

    return make


@pytest.fixture
def study(tmp_path: Path) -> Iterator["optuna.Study"]:
    """A study with one perfect trial, and the configuration of a command that prunes by the median."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        overrides = ["hydra/sweeper=optuna", "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1"]
        overrides.append("hydra.sweeper.pruner.n_warmup_steps=2")
        storage = [f"hydra.sweeper.storage={tmp_path}/study.journal", "hydra.sweeper.study_name=mine"]
        HydraConfig.instance().set_config(hydra.compose("train", [*overrides, *storage], return_hydra_config=True))
    found = open_study(f"{tmp_path}/study.journal", "mine", ["maximize"])
    trial = found.ask()
    for epoch in (1, 2, 3):
        trial.report(1.0, epoch)
    found.tell(trial, 1.0)
    yield found
    HydraConfig.instance().cfg = None


@pytest.fixture
def fit(trainer: Callable[..., L.Trainer], model: L.LightningModule, data: InMemoryDataModule) -> Callable[..., None]:
    """Train with a callback, and with options of the trainer."""

    def fit_(*callbacks: L.Callback, **options: Any) -> None:
        trainer(*callbacks, **options).fit(model, datamodule=data)

    return fit_


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def test_it_tells_how_far_it_is(
    job: Callable[..., SweepJob],
    fit: Callable[..., None],
    tmp_path: Path,
) -> None:
    fit(job(), max_epochs=2)
    told = status(tmp_path)
    assert (told["epoch"], told["max_epochs"]) == (2, 2)
    assert 0 <= told["figures"]["val/acc"] <= 1 and {"train/loss", "val/loss"} <= told["figures"].keys()


def test_it_tells_the_score_of_its_task(
    job: Callable[..., SweepJob], fit: Callable[..., None], model: L.LightningModule, tmp_path: Path
) -> None:
    model.score = "balanced_acc"
    fit(job(), max_epochs=1)
    assert status(tmp_path)["figures"].keys() == {"train/loss", "val/loss", "val/balanced_acc"}


def test_a_study_ends_a_hopeless_run_once_it_may_be_judged(
    study: "optuna.Study",
    job: Callable[..., SweepJob],
    fit: Callable[..., None],
    tmp_path: Path,
) -> None:
    callback = job(trial=study.ask().number, prune_by="val/acc")
    losses: list[float] = []

    class Watch(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            losses.append(float(trainer.callback_metrics["val/loss"]))

    with pytest.raises(Pruned, match="Pruned at 0"):
        fit(callback, Watch(), max_epochs=9)
    told = status(tmp_path)
    assert told["epoch"] == 2  # n_warmup_steps
    assert told["figures"]["val/loss"] == losses[-1] != losses[-2] and "train/loss" not in told["figures"]
    assert list(study.trials[1].intermediate_values) == [1, 2]


def test_a_run_is_judged_after_epochs_with_a_validation_only(
    study: "optuna.Study",
    job: Callable[..., SweepJob],
    fit: Callable[..., None],
) -> None:
    callback = job(trial=study.ask().number, prune_by="val/acc")
    with pytest.raises(Pruned):
        fit(callback, max_epochs=9, check_val_every_n_epoch=3)
    assert list(study.trials[1].intermediate_values) == [3]


def test_a_folder_has_no_say_in_what_is_built(
    job: Callable[..., SweepJob],
    fit: Callable[..., None],
    tmp_path: Path,
) -> None:
    """A trial that is resumed on its own trains to its end, whatever its `job.json` says."""
    evil = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "touched")}
    callback = job(trial=0, prune_by="val/acc", pruner=evil, storage=str(tmp_path / "none.journal"))
    fit(callback, max_epochs=3)
    assert status(tmp_path)["epoch"] == 3 and not (tmp_path / "touched").exists()


def test_a_figure_that_a_run_has_not(
    job: Callable[..., SweepJob],
    fit: Callable[..., None],
) -> None:
    with pytest.raises(ValueError, match=r"prune_by=val/f1 is not a metric of this run; it has .*val/acc"):
        fit(job(trial=0, prune_by="val/f1"))


@pytest.mark.parametrize("every", [1, 2])
def test_the_figures_that_it_tells_are_those_of_one_epoch(
    every: int, job: Callable[..., SweepJob], fit: Callable[..., None], tmp_path: Path
) -> None:
    seen: dict[str, list[float]] = {}

    class Watch(Checkpoint):  # sees all metrics of an epoch, because Lightning calls Checkpoint callbacks last
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            for name in ("train/loss", "val/loss"):
                seen.setdefault(name, []).append(float(trainer.callback_metrics.get(name, "nan")))

    told: list[dict[str, float]] = []

    class Read(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            told.append(status(tmp_path).get("figures"))

    fit(job(), Read(), Watch(), enable_checkpointing=True, max_epochs=4, check_val_every_n_epoch=every)
    last = status(tmp_path)["figures"]
    figures = [one for one in told if one] + [last]
    assert len(set(seen["train/loss"])) == 4
    for one in figures:
        epoch = seen["train/loss"].index(one["train/loss"])
        assert one["val/loss"] == seen["val/loss"][epoch] and (epoch + 1) % every == 0
    assert last["train/loss"] == seen["train/loss"][3]
