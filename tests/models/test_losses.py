"""Cross-entropy whose classes may weigh differently."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import DictConfig
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from src.data.synthetic import SyntheticDataModule
from src.models.classifier import Classifier
from src.models.losses import CrossEntropy
from src.run.instantiate import build_trained_model, instantiate
from src.train import train
from tests.conftest import TINY_RUN
from tests.data.conftest import write_photographs
from tests.programs import run

LOGITS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 4


@pytest.mark.parametrize("label_smoothing", [-0.1, 2])
def test_a_smoothing_that_is_no_share_is_refused(label_smoothing: float) -> None:
    with pytest.raises(ValueError, match=f"label_smoothing={label_smoothing} must be between 0 and 1"):
        CrossEntropy(4, label_smoothing=label_smoothing)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_it_is_torchs_where_classes_weigh_alike(label_smoothing: float) -> None:
    ours = CrossEntropy(4, label_smoothing=label_smoothing)
    assert torch.equal(ours(LOGITS, LABELS), nn.CrossEntropyLoss(label_smoothing=label_smoothing)(LOGITS, LABELS))
    torch.testing.assert_close(CrossEntropy(4, [1, 1, 1, 1], label_smoothing)(LOGITS, LABELS), ours(LOGITS, LABELS))


def test_each_sample_weighs_what_its_class_does_however_batches_are_cut() -> None:
    weight = [1, 2, 0.5, 4]
    loss = CrossEntropy(4, weight)
    losses = F.cross_entropy(LOGITS, LABELS, reduction="none")
    expected = (losses * torch.tensor(weight)[LABELS]).mean()
    torch.testing.assert_close(loss(LOGITS, LABELS), expected)
    parts = [loss(*part) for part in zip(LOGITS.split(3), LABELS.split(3), strict=True)]
    torch.testing.assert_close(torch.stack(parts).mean(), expected)


def test_balanced_weights_let_every_class_count_alike() -> None:
    loss = CrossEntropy(4, "balanced")
    counts = torch.tensor([70, 70, 4, 1])
    loss.balance(counts)
    assert loss.weight is not None
    torch.testing.assert_close(loss.weight * counts, torch.full((4,), 145 / 4))  # and 1 for an image on average
    loss.balance(torch.tensor([70, 70, 0, 1]))
    assert loss.weight.tolist() == pytest.approx([141 / 3 / 70, 141 / 3 / 70, 1, 141 / 3])


@pytest.mark.parametrize(
    ("num_classes", "weight", "words"),
    [
        (4, "balancd", "weight=balancd must be balanced"),
        (4, [1, 2], r"weight=\[1, 2\] must have num_classes=4 numbers"),
        (4, [1, 2, 3, -1], "at least 0"),
        ({"a": 2, "b": 3}, "balanced", "loss_weights"),
        ({"a": 2, "b": 3}, [1, 2], "loss_weights"),
    ],
)
def test_weights_that_fit_no_classes_are_refused(num_classes: Any, weight: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CrossEntropy(num_classes, weight)


@pytest.mark.parametrize("weight", ["balanced", "[1,2,3,4,5,1,1,1,1,0.5]"])
def test_a_run_with_weights_is_tested_and_resumed(
    weight: str, data_dir: Path, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    own = ["model=mnist_sdn_8k", *TINY_RUN, "trainer.max_epochs=2", f"model.criterion.weight={weight}"]
    trained = run("train", *own, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    assert trained.returncode == 0, trained.stderr
    tested = run("eval", f"run_dir={tmp_path}/run", f"hydra.run.dir={tmp_path}/eval")
    assert tested.returncode == 0, tested.stderr
    figures, again = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "eval"))
    assert {"val/balanced_acc", "test/balanced_acc"} <= set(figures) and "train/balanced_acc" not in figures
    for name in ("test/loss", "test/acc", "test/balanced_acc"):
        assert again[name] == pytest.approx(figures[name])
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed, objects = train(compose(*own, f"ckpt_path={last}", f"paths.output_dir={tmp_path}/run"))
    assert resumed["test/loss"] == pytest.approx(figures["test/loss"])
    criterion, labels = objects["model"].criterion, objects["datamodule"].data_train.tensors[1]
    counts = torch.bincount(labels, minlength=10)
    expected = counts.sum() / (10 * counts) if weight == "balanced" else torch.tensor(json.loads(weight))
    torch.testing.assert_close(criterion.weight, expected)
    # where there are no data to ask, as before an export, the weights are those of the training
    torch.testing.assert_close(build_trained_model(compose(*own), last).criterion.weight, expected)


def test_an_unbalanced_folder_is_trained_with_weights(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos", {"ant": 60, "bee": 20})
    own = ["model=simple_mlp", "data=image_folder", f"data.folder={tmp_path}/photos", "data.num_workers=0"]
    own += ["data.image_size=28", "data.batch_size=8", "model.criterion.weight=balanced", "trainer.max_epochs=1"]
    figures, objects = train(compose(*own, "trainer=cpu", "logger=none"))
    counts = objects["datamodule"].class_counts()["train"]
    torch.testing.assert_close(objects["model"].criterion.weight, counts.sum() / (2 * counts))
    assert 0 <= figures["val/balanced_acc"] <= 1


def test_data_that_count_no_classes_are_named() -> None:
    class Uncounted(L.LightningDataModule):
        """Has loaders, and says nothing of its classes."""

        def train_dataloader(self) -> "DataLoader[Any]":
            return DataLoader(TensorDataset(torch.randn(12, 1, 2, 2), LABELS), batch_size=4)

    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    model = Classifier(net, torch.optim.SGD, None, CrossEntropy(4, "balanced"), (1, 2, 2), score="acc", mode="max")
    trainer = L.Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=r"asks the data for class_counts\(\), and Uncounted has no such method"):
        trainer.fit(model, datamodule=Uncounted())


def test_classes_of_the_task_are_not_balanced_by_those_of_the_data() -> None:
    class Named(Classifier):
        """Has as many classes as the data, but others."""

        def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
            return {self.output_name: {"kind": "classes", "names": ["0°", "90°", "180°", "270°"]}}

    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    sizes = {"train_size": 48, "val_size": 16, "test_size": 16, "batch_size": 8}
    data = SyntheticDataModule(num_classes=4, channels=1, image_size=2, **sizes)
    trainer = L.Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False)
    model = Named(net, torch.optim.SGD, None, CrossEntropy(4, "balanced"), (1, 2, 2), score="acc", mode="max")
    with pytest.raises(ValueError, match=r"but Named predicts classes of its own: give the weights as a list\."):
        trainer.fit(model, datamodule=data)


def test_checkpoints_of_runs_without_weights_hold_the_net_alone(compose: Callable[..., DictConfig]) -> None:
    for overrides in ([], ["model.criterion.weight=[1,2,1,1,1,1,1,1,1,1]"]):
        names = instantiate(compose("model=mnist_sdn_8k", *overrides).model).state_dict()
        assert names and all(name.startswith("net.") for name in names)
