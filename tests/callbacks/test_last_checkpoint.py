"""A run that is interrupted and resumed ends bit for bit like an uninterrupted one."""

import os
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from src.callbacks.last_checkpoint import LastCheckpoint
from src.run.checkpoints import RESUME_KEY, read_checkpoint
from src.run.interruption import Interrupted, Pruned
from src.system.signals import listener
from src.train import train

SMALL = (
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.train_size=160",
    "data.val_size=32",
    "data.test_size=32",
    "data.batch_size=16",
    "trainer=cpu",
    "trainer.max_epochs=3",
    "logger=none",
    "callbacks.progress_bar=null",
    "callbacks.model_summary=null",
    "callbacks.image_report=null",
)
NETS = {
    "MLP": ["model=simple_mlp", "callbacks.early_stopping.patience=1"],
    "CNN with BatchNorm, dropout, augmentation": ["model=mnist_cnn_8k", "data/augmentation=digits"],
    "ViT with dropout": ["model=mnist_vit_38k", "+model.net.dropout=0.1", "+model.net.drop_path_rate=0.1"],
    "moving average of the weights, BatchNorm": ["model=mnist_cnn_8k", "callbacks=[default,ema]"],
    "Muon, which keeps a flag for each parameter": ["model=mnist_cnn_8k", "model/optimizer=muon"],
    "mean of the weights": ["model=simple_mlp", "callbacks=[default,swa]", "callbacks.average_weights.start=0.3"],
    "whitening layer, partial identities, moving average": [
        "model=mnist_cnn_8k",
        "+model.net.whitening.kernel_size=3",
        "+model.net.dirac=true",
        "callbacks=[default,ema]",
    ],
    "mixtures of images": ["model=mnist_cnn_8k", "model/mixing=mixup_cutmix", "model.mixing.until=0.5"],
    "Lookahead": ["model=mnist_cnn_8k", "callbacks=[default,lookahead]"],
    "layers at rates of their own": [
        "model=mnist_cnn_8k",
        "model/parameter_groups=finetuning",
        "model.parameter_groups.norm_bias_lr_ratio=8",
        "model.parameter_groups.patterns={features.0:{lr_ratio:0.5},*bias:{weight_decay:0.1}}",
        "model/scheduler=linear",
    ],
    "frozen layers with BatchNorm, trained from the second and third epoch on": [
        "model=mnist_cnn_8k",
        "model.freeze=[*,-head]",
        "model.unfreeze={features.0:3,features.1:2}",
    ],
    "random operations, mirrored in turn, on small images, and plain ones at last": [
        "model=mnist_cnn_8k",
        "data/augmentation=trivial",
        "data.augmentation.horizontal_flip=0",
        "data.alternating_flip=true",
        "data.sizes=[14,28]",
        "data.augment_until=0.6",
    ],
    "ViT on images of two sizes": ["model=mnist_vit_38k", "data/augmentation=rand", "data.sizes=[14,28]"],
    "plateau schedule, gradients gathered": [
        "model=simple_mlp",
        "model/scheduler=plateau",
        "trainer.accumulate_grad_batches=2",
    ],
}
if find_spec("schedulefree"):  # an extra of its own
    NETS["weights that are trained and others that are used"] = [
        "model=mnist_cnn_8k",
        "model/optimizer=schedule_free",
        "model/scheduler=none",
    ]
    NETS["a moving average of weights that are trained"] = [
        *NETS["weights that are trained and others that are used"],
        "callbacks=[default,ema]",
    ]
STEP = "callbacks.last_checkpoint.every_n_train_steps"


class StopAfter(L.Callback):
    """Stop a run after a given batch, with an error or a signal."""

    def __init__(self, batches: int, how: str = "fault") -> None:
        self.batches, self.how = batches, how

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.batches -= 1
        if self.batches == 0:
            if self.how == "fault":
                raise RuntimeError("broken off")
            os.kill(os.getpid(), getattr(signal, self.how))


@pytest.fixture
def run(compose: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., tuple[dict[str, float], dict[str, Any]]]:
    """Return a function that trains in a named folder and returns metrics without times and the final state."""

    def run_(name: str, *overrides: str, stop_after: int = 0, how: str = "fault") -> tuple[dict[str, float], Any]:
        broken = [
            "+callbacks.broken._target_=tests.callbacks.test_last_checkpoint.StopAfter",
            f"+callbacks.broken.batches={stop_after}",
            f"+callbacks.broken.how={how}",
        ]
        options = [*SMALL, *overrides, *(broken if stop_after else [])]
        metrics, _ = train(compose(*options, f"paths.output_dir={tmp_path / name}"))
        plain = {key: value for key, value in metrics.items() if "second" not in key}
        return plain, read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"]

    return run_


def assert_equal(a: tuple[dict[str, float], Any], b: tuple[dict[str, float], Any]) -> None:
    assert a[0] == b[0]
    assert a[1].keys() == b[1].keys()
    assert all(torch.equal(value, b[1][name]) for name, value in a[1].items())


@pytest.mark.parametrize("options", NETS.values(), ids=NETS.keys())
def test_a_run_interrupted_anywhere_and_resumed_ends_the_same(
    options: list[str], run: Callable[..., Any], tmp_path: Path
) -> None:
    whole = run("whole", *options)
    last = f"ckpt_path={tmp_path}/parts/checkpoints/last.ckpt"
    with pytest.raises(RuntimeError, match="broken off"):
        run("parts", *options, f"{STEP}=1", stop_after=4)  # during the first epoch
    with pytest.raises(RuntimeError, match="broken off"):
        run("parts", *options, f"{STEP}=2", last, stop_after=8)  # after its last batch, before the validation
    with pytest.raises(RuntimeError, match="broken off"):
        run("parts", *options, last, stop_after=12)  # during the second, with the checkpoint of the first
    assert_equal(run("parts", *options, last), whole)
    assert_equal(run("parts", *options, last), whole)  # nothing left to train: the same metrics


def test_rarely_logged_metrics_survive_two_interruptions(run: Callable[..., Any], tmp_path: Path) -> None:
    """The last logged step lies before the first interruption, so that only checkpoints hold its metrics."""
    options = [*NETS["MLP"], "logger=csv", "trainer.log_every_n_steps=5", "trainer.accumulate_grad_batches=3"]
    last = f"ckpt_path={tmp_path}/parts/checkpoints/last.ckpt"
    whole = run("whole", *options)
    with pytest.raises(RuntimeError, match="broken off"):
        run("parts", *options, f"{STEP}=1", stop_after=15)
    with pytest.raises(RuntimeError, match="broken off"):
        run("parts", *options, f"{STEP}=1", last, stop_after=4)
    assert_equal(run("parts", *options, last), whole)
    assert "train/loss_step" in whole[0]


def test_metrics_superseded_by_another_interval_are_dropped(run: Callable[..., Any], tmp_path: Path) -> None:
    options = [*NETS["MLP"], "logger=csv", "callbacks.early_stopping=null"]
    last = f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    first, _ = run("run", *options, "trainer.max_epochs=1", "trainer.log_every_n_steps=3")
    assert {"lr", "train/loss_step"} <= first.keys()
    longer, _ = run("run", *options, last, "trainer.max_epochs=2", "trainer.log_every_n_steps=1000")
    assert first.keys() - longer.keys() == {"lr", "train/loss_step"}  # no step of the second epoch was logged
    again, _ = run("run", *options, last, "trainer.max_epochs=2", "trainer.log_every_n_steps=5")
    assert again == longer  # nothing was left to train


def test_a_checkpoint_without_balanced_accuracy_is_resumed_exactly(run: Callable[..., Any], tmp_path: Path) -> None:
    whole = run("whole", *NETS["MLP"])
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    with pytest.raises(RuntimeError, match="broken off"):
        run("parts", *NETS["MLP"], f"{STEP}=1", stop_after=12)
    checkpoint = read_checkpoint(last)
    for name in ("val_metrics", "test_metrics"):
        del checkpoint[RESUME_KEY]["processes"][0]["metrics"][name]["outcomes"]
    former = last.with_name("former.ckpt")
    torch.save(checkpoint, former)
    assert_equal(run("parts", *NETS["MLP"], f"ckpt_path={former}"), whole)


def test_a_resumed_run_reports_its_total_time_and_best_epoch(
    compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    metrics, _ = train(compose(*SMALL, "model=simple_mlp", "model.optimizer.lr=0"))  # no epoch beats the first
    assert (metrics["epochs"], metrics["best_epoch"]) == (3, 1)
    assert [path.name for path in (tmp_path / "checkpoints").glob("epoch_*.ckpt")] == ["epoch_000.ckpt"]
    state = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["callbacks"]["RunRecord"]
    assert metrics["train_seconds"] == pytest.approx(sum(state["epoch_seconds"]))
    assert len(state["epoch_seconds"]) == 3


def test_a_run_on_an_image_folder_is_resumed_exactly(run: Callable[..., Any], tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for number in range(60):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(256, (40, 36, 3), dtype=torch.uint8, generator=generator).numpy()).save(path)
    options = [
        "model=simple_mlp",
        "data=image_folder",
        f"data.folder={tmp_path}/photos",
        "data.num_classes=2",
        "data.image_size=28",
        "data.batch_size=8",
        "data/augmentation=photos",
        "data.num_workers=2",
    ]
    synthetic = ("data=synthetic", "data.train_size", "data.val_size", "data.test_size")
    own = [one for one in SMALL if not one.startswith(synthetic)]
    globals_ = run.__globals__  # type: ignore[attr-defined]
    before = globals_["SMALL"]
    globals_["SMALL"] = tuple(own)
    try:
        whole = run("whole", *options)
        with pytest.raises(RuntimeError, match="broken off"):
            run("parts", *options, f"{STEP}=1", stop_after=9)
        assert_equal(run("parts", *options, f"ckpt_path={tmp_path}/parts/checkpoints/last.ckpt"), whole)
    finally:
        globals_["SMALL"] = before


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_a_checkpoint_and_ends_a_resumable_run(
    how: str, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "training", True)
    options = NETS["MLP"]
    whole = run("whole", *options)
    assert not listener.training
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.raises(Interrupted, match=rf"{how}; to resume: python src/train.py resume={tmp_path}/parts"):
        run("parts", *options, stop_after=14, how=how)
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert listener.training  # the run then ends by itself, however long it takes
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == 14
    assert_equal(run("parts", *options, f"ckpt_path={last}"), whole)


def test_checkpoints_hold_plain_values_only(run: Callable[..., Any], tmp_path: Path) -> None:
    run("run", *NETS["MLP"])

    def kinds(node: Any) -> set[type]:
        if isinstance(node, dict):
            return {type(key) for key in node}.union(*(kinds(value) for value in node.values()))
        return set().union(*(kinds(value) for value in node)) if isinstance(node, list | tuple) else {type(node)}

    for path in (tmp_path / "run" / "checkpoints").iterdir():
        checkpoint = torch.load(path, weights_only=True)
        assert kinds(checkpoint) <= {str, int, float, bool, type(None), torch.Tensor}, path


@pytest.mark.parametrize("options", [{"every_n_train_steps": 0}, {"every_n_minutes": -1}])
def test_a_wrong_interval_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"last_checkpoint\.every_n_\w+=(0|-1) must be above 0"):
        LastCheckpoint("x", **options)


def test_a_checkpoint_is_saved_every_n_minutes(run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken off"):
        run("run", *NETS["MLP"], "callbacks.last_checkpoint.every_n_minutes=1e-9", stop_after=4)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] >= 3


@pytest.mark.parametrize("place", ["..", "../../canary", "../run.json"])
def test_a_checkpoint_cannot_choose_which_files_are_deleted(
    place: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "canary").mkdir()
    run("run", *NETS["MLP"])
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    hostile = torch.load(last, weights_only=True)
    (state,) = (one for one in hostile["callbacks"].values() if "best_k_models" in one)
    worst = f"{state['dirpath']}/{place}"  # what Lightning deletes for a better one
    state |= {"best_k_models": {worst: torch.tensor(-1.0)}, "kth_best_model_path": worst, "kth_value": -1.0}
    torch.save(hostile, last)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"last\.ckpt is refused: .* as a checkpoint"):
        run("run", *NETS["MLP"], "trainer.max_epochs=5", "callbacks.early_stopping=null", f"ckpt_path={last}")
    assert set(tmp_path.rglob("*")) == before


def test_a_signal_after_the_last_epoch_is_not_lost(
    trainer: Callable[..., L.Trainer], model: L.LightningModule, data: L.LightningDataModule, tmp_path: Path
) -> None:
    class Late(L.Callback):
        def on_train_end(self, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="SIGTERM"):
        trainer(Late(), LastCheckpoint(str(tmp_path)), enable_checkpointing=True).fit(model, datamodule=data)


def test_a_signal_to_another_process_after_the_last_epoch_ends_this_one(tmp_path: Path) -> None:
    trainer = Mock(world_size=2, default_root_dir=tmp_path)
    trainer.strategy.reduce_boolean_decision = lambda decision, all: True
    with pytest.raises(Interrupted, match="in another process"):
        LastCheckpoint(str(tmp_path)).on_fit_end(trainer, Mock())


def test_a_signal_during_the_last_epoch_of_a_pruned_run_reaches_the_sweep(
    trainer: Callable[..., L.Trainer], model: L.LightningModule, data: L.LightningDataModule, tmp_path: Path
) -> None:
    class Judge(L.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            raise Pruned(0.5)

    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with pytest.raises(Pruned):
            trainer(Judge(), LastCheckpoint(str(tmp_path)), enable_checkpointing=True).fit(model, datamodule=data)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_a_loader_without_a_position_is_saved_without_one(
    model: L.LightningModule, data: L.LightningDataModule, trainer: Callable[..., L.Trainer], tmp_path: Path
) -> None:
    plain = DataLoader(TensorDataset(torch.randn(32, 1, 8, 8), torch.arange(32) % 4), batch_size=8)
    positions = []
    for source in (data, plain):
        trainer(LastCheckpoint(str(tmp_path)), enable_checkpointing=True).fit(model, source)
        (own,) = read_checkpoint(tmp_path / "last.ckpt")[RESUME_KEY]["processes"]
        positions.append(own["loader"])
    assert positions == [{"epoch": 0, "batches": 4}, None]
