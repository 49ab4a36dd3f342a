"""Cross-entropy with class weights."""

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
def test_label_smoothing_outside_0_to_1_is_refused(label_smoothing: float) -> None:
    with pytest.raises(ValueError, match=f"label_smoothing={label_smoothing} must be between 0 and 1"):
        CrossEntropy(4, label_smoothing=label_smoothing)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_equal_weights_give_torchs_loss(label_smoothing: float) -> None:
    ours = CrossEntropy(4, label_smoothing=label_smoothing)
    assert torch.equal(ours(LOGITS, LABELS), nn.CrossEntropyLoss(label_smoothing=label_smoothing)(LOGITS, LABELS))
    torch.testing.assert_close(CrossEntropy(4, [1, 1, 1, 1], label_smoothing)(LOGITS, LABELS), ours(LOGITS, LABELS))


def test_samples_are_weighted_by_class_whatever_the_batch_size() -> None:
    weight = [1, 2, 0.5, 4]
    loss = CrossEntropy(4, weight)
    losses = F.cross_entropy(LOGITS, LABELS, reduction="none")
    expected = (losses * torch.tensor(weight)[LABELS]).mean()
    torch.testing.assert_close(loss(LOGITS, LABELS), expected)
    parts = [loss(*part) for part in zip(LOGITS.split(3), LABELS.split(3), strict=True)]
    torch.testing.assert_close(torch.stack(parts).mean(), expected)


def test_balanced_weights_give_every_class_the_same_total() -> None:
    loss = CrossEntropy(4, "balanced")
    counts = torch.tensor([70, 70, 4, 1])
    loss.balance(counts)
    assert loss.weight is not None
    torch.testing.assert_close(loss.weight * counts, torch.full((4,), 145 / 4))  # the mean over all images is 1
    loss.balance(torch.tensor([70, 70, 0, 1]))
    assert loss.weight.tolist() == pytest.approx([141 / 3 / 70, 141 / 3 / 70, 1, 141 / 3])


@pytest.mark.parametrize(
    ("num_classes", "weight", "message"),
    [
        (4, "balancd", "weight=balancd must be balanced"),
        (4, [1, 2], r"weight=\[1, 2\] must be num_classes=4 non-negative numbers"),
        (4, [1, 2, 3, -1], "non-negative"),
        ({"a": 2, "b": 3}, "balanced", "loss_weights"),
        ({"a": 2, "b": 3}, [1, 2], "loss_weights"),
    ],
)
def test_weights_that_do_not_match_the_classes_are_refused(num_classes: Any, weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEntropy(num_classes, weight)


@pytest.mark.parametrize("weight", ["balanced", "[1,2,3,4,5,1,1,1,1,0.5]"])
def test_a_run_with_class_weights_is_evaluated_and_resumed(
    weight: str, data_dir: Path, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    overrides = ["model=mnist_sdn_8k", *TINY_RUN, "trainer.max_epochs=2", f"model.criterion.weight={weight}"]
    trained = run("train", *overrides, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    assert trained.returncode == 0, trained.stderr
    tested = run("eval", f"run_dir={tmp_path}/run", f"hydra.run.dir={tmp_path}/eval")
    assert tested.returncode == 0, tested.stderr
    metrics, evaluated = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "eval"))
    assert {"val/balanced_acc", "test/balanced_acc"} <= set(metrics) and "train/balanced_acc" not in metrics
    for name in ("test/loss", "test/acc", "test/balanced_acc"):
        assert evaluated[name] == pytest.approx(metrics[name])
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed, objects = train(compose(*overrides, f"ckpt_path={last}", f"paths.output_dir={tmp_path}/run"))
    assert resumed["test/loss"] == pytest.approx(metrics["test/loss"])
    criterion, labels = objects["model"].criterion, objects["datamodule"].data_train.tensors[1]
    counts = torch.bincount(labels, minlength=10)
    expected = counts.sum() / (10 * counts) if weight == "balanced" else torch.tensor(json.loads(weight))
    torch.testing.assert_close(criterion.weight, expected)
    # without data, as in an export, the weights come from the checkpoint
    torch.testing.assert_close(build_trained_model(compose(*overrides), last).criterion.weight, expected)


def test_an_imbalanced_image_folder_trains_with_balanced_weights(
    compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    write_photographs(tmp_path / "photos", {"ant": 60, "bee": 20})
    overrides = ["model=simple_mlp", "data=image_folder", f"data.folder={tmp_path}/photos", "data.num_workers=0"]
    overrides += ["data.image_size=28", "data.batch_size=8", "model.criterion.weight=balanced", "trainer.max_epochs=1"]
    metrics, objects = train(compose(*overrides, "trainer=cpu", "logger=none"))
    counts = objects["datamodule"].class_counts()["train"]
    torch.testing.assert_close(objects["model"].criterion.weight, counts.sum() / (2 * counts))
    assert 0 <= metrics["val/balanced_acc"] <= 1


def test_balanced_weights_refuse_data_without_class_counts() -> None:
    class Uncounted(L.LightningDataModule):
        """Has loaders but no class_counts."""

        def train_dataloader(self) -> "DataLoader[Any]":
            return DataLoader(TensorDataset(torch.randn(12, 1, 2, 2), LABELS), batch_size=4)

    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    model = Classifier(net, torch.optim.SGD, None, CrossEntropy(4, "balanced"), (1, 2, 2), score="acc", mode="max")
    trainer = L.Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=r"needs class_counts\(\), which Uncounted does not have: implement it"):
        trainer.fit(model, datamodule=Uncounted())


def test_balanced_weights_refuse_a_task_with_other_classes_than_the_data() -> None:
    class Named(Classifier):
        """Predict as many classes as the data have, but different ones."""

        def output_card(self, input_card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
            return {self.output_name: {"kind": "classes", "names": ["0°", "90°", "180°", "270°"]}}

    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    sizes = {"train_size": 48, "val_size": 16, "test_size": 16, "batch_size": 8}
    data = SyntheticDataModule(num_classes=4, channels=1, image_size=2, **sizes)
    trainer = L.Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False)
    model = Named(net, torch.optim.SGD, None, CrossEntropy(4, "balanced"), (1, 2, 2), score="acc", mode="max")
    with pytest.raises(ValueError, match=r"but Named predicts other classes: give the weights as a list\."):
        trainer.fit(model, datamodule=data)


def test_checkpoints_contain_no_weights_that_the_config_gives(compose: Callable[..., DictConfig]) -> None:
    for weights in ([], ["model.criterion.weight=[1,2,1,1,1,1,1,1,1,1]"]):
        names = instantiate(compose("model=mnist_sdn_8k", *weights).model).state_dict()
        assert names and all(name.startswith("net.") for name in names)
