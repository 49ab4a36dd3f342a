"""The classifier: learning, logging, and the parameters of its optimizer."""

import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from src.deploy.agreement import agreement
from src.models.classifier import Classifier
from src.models.components.simple_cnn import SimpleCNN
from src.models.components.simple_mlp import SimpleMLP
from src.models.schedulers import Schedule, warmup_cosine
from src.train import train

adamw = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)


def small_net() -> SimpleMLP:
    return SimpleMLP(in_channels=1, image_size=4, num_classes=3, hidden_sizes=[16], dropout=0)


def classifier(
    net: nn.Module | None = None,
    optimizer: Callable[..., Any] = adamw,
    scheduler: Callable[..., Schedule] | None = None,
    **options: Any,
) -> Classifier:
    return Classifier(
        net or small_net(), optimizer, scheduler, nn.CrossEntropyLoss(), (1, 4, 4), score="acc", mode="max", **options
    )


def trainer(max_epochs: int | None = 1, **options: Any) -> L.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(accelerator="cpu", max_epochs=max_epochs, **{**quiet, **options})


def batches(count: int, batch_size: int, seed: int = 0) -> "DataLoader[Any]":
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 4, 4, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(count) % 3), batch_size=batch_size)


def by_hand(net: nn.Module, data: "DataLoader[Any]") -> dict[str, float]:
    """Return loss and accuracy over all samples at once, image by image."""
    with torch.no_grad():
        pairs = [(net.eval()(image[None]), label[None]) for image, label in data.dataset]
    losses = [F.cross_entropy(logits, label).item() for logits, label in pairs]
    right = [logits.argmax().item() == label.item() for logits, label in pairs]
    return {"loss": sum(losses) / len(losses), "acc": sum(right) / len(right)}


# ---- learning and logging


@pytest.mark.parametrize("net", [small_net, partial(SimpleCNN, in_channels=1, image_size=4, num_classes=3)])
def test_it_learns_a_handful_of_images_by_heart(net: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    run = trainer(max_epochs=60)
    model = classifier(net())
    data = batches(12, 12)
    run.fit(model, data)
    assert run.callback_metrics["train/acc"] > 0.9
    figures = by_hand(model.net, data)
    assert figures["acc"] == 1
    assert figures["loss"] < 0.1


def test_the_figures_of_each_stage_are_the_means_over_its_samples() -> None:
    torch.manual_seed(0)
    # nothing is learnt, so that the net of the first step is that of the last; batches are uneven: 8, 8, 4
    model = classifier(optimizer=partial(torch.optim.SGD, lr=0.0))
    train, val, test = (batches(20, 8, seed) for seed in range(3))
    run = trainer(max_epochs=2)
    run.fit(model, train, val)
    logged = dict(run.callback_metrics)
    run.test(model, test, verbose=False)
    logged |= run.callback_metrics
    for stage, data in {"train": train, "val": val, "test": test}.items():
        for name, expected in by_hand(model.net, data).items():
            assert logged[f"{stage}/{name}"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("every", "expected"), [(2, [1, 3, 5]), (0, [])])  # counted from 0; 0 switches it off
def test_the_loss_of_a_step_is_logged_as_often_as_the_trainer_says(
    every: int, expected: list[int], tmp_path: Path
) -> None:
    run = trainer(max_epochs=2, logger=CSVLogger(tmp_path, name="", version=""), log_every_n_steps=every)
    run.fit(classifier(), batches(20, 8))
    assert ("train/loss_step" in run.callback_metrics) == bool(expected)
    files = list(tmp_path.glob("metrics.csv"))
    rows = [row for file in files for row in csv.DictReader(file.open())]
    assert [int(row["step"]) for row in rows if row.get("train/loss_step")] == expected


def test_the_loss_of_a_step_is_that_of_its_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = classifier(optimizer=partial(torch.optim.SGD, lr=0.0))
    run = trainer(logger=CSVLogger(tmp_path, name="", version=""), log_every_n_steps=1)
    data = batches(20, 8)
    run.fit(model, data)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    logged = [float(row["train/loss_step"]) for row in rows if row["train/loss_step"]]
    expected = [F.cross_entropy(model.net(images), labels).item() for images, labels in data]
    assert logged == pytest.approx(expected, rel=1e-5)


def test_it_is_the_net_and_hands_test_logits_to_callbacks() -> None:
    class Keeper(L.Callback):
        def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
            kept.append(outputs["class"])

    kept: list[Tensor] = []
    model = classifier()
    data = batches(20, 8)
    trainer(callbacks=[Keeper()]).test(model, data, verbose=False)
    expected = torch.cat([model.net(images) for images, _ in data])
    torch.testing.assert_close(torch.cat(kept), expected)
    torch.testing.assert_close(model(data.dataset[:][0]), expected)
    assert model(model.example_input_array).shape == (2, 3)  # the summary and the graph are drawn with it


# ---- optimizer and schedule


def optimizer_of(model: Classifier) -> torch.optim.Optimizer:
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def test_weights_decay_and_biases_and_norms_do_not() -> None:
    net = SimpleCNN(in_channels=1, image_size=4, num_classes=3)
    for parameter in net.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)  # leaves the decay alone to act
    optimizer_of(classifier(net)).step()
    for name, parameter in net.named_parameters():
        expected = 1 - 0.01 * 0.1 if parameter.ndim >= 2 else 1
        torch.testing.assert_close(parameter.data, torch.full_like(parameter, expected), msg=name)


def test_every_parameter_is_optimized_once_unless_it_is_frozen() -> None:
    net = small_net()
    net.head.bias.requires_grad_(False)
    groups = optimizer_of(classifier(net)).param_groups
    given = [id(parameter) for group in groups for parameter in group["params"]]
    wanted = [id(parameter) for parameter in net.parameters() if parameter is not net.head.bias]
    assert sorted(given) == sorted(wanted)


def test_the_rate_is_the_same_throughout_without_a_schedule() -> None:
    model = classifier()
    run = trainer(max_epochs=2)
    before = model.net.head.weight.clone()  # type: ignore[operator, union-attr]
    run.fit(model, batches(20, 8))
    assert run.lr_scheduler_configs == []
    assert [group["lr"] for group in run.optimizers[0].param_groups] == [0.01, 0.01]
    assert not torch.equal(before, model.net.head.weight)  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_epochs": 3}, {"total_steps": 18, "steps_per_epoch": 6}),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, {"total_steps": 9, "steps_per_epoch": 3}),
        ({"max_epochs": 2, "limit_train_batches": 4}, {"total_steps": 8, "steps_per_epoch": 4}),
        ({"max_epochs": -1, "max_steps": 8}, {"total_steps": 8, "steps_per_epoch": 6}),
        ({"max_epochs": None, "max_steps": 8}, {"total_steps": 8, "steps_per_epoch": 6}),
    ],
    ids=str,
)
def test_a_schedule_is_told_how_many_optimizer_steps_the_run_has(
    options: dict[str, Any], expected: dict[str, int]
) -> None:
    told = []

    def schedule(optimizer: torch.optim.Optimizer, **numbers: int) -> Schedule:
        told.append(numbers)
        return {"scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer), "interval": "step"}

    run = trainer(**options)
    run.fit(classifier(scheduler=schedule), batches(24, 4))
    assert told == [expected]
    assert run.global_step == expected["total_steps"]


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Serves images without end, for epochs of unknown length."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        while True:
            yield torch.zeros(1, 4, 4), 0


@pytest.mark.parametrize(
    ("options", "data", "sentence"),
    [
        ({"max_epochs": 2}, DataLoader(Stream(), 4), "an epoch.*set trainer.limit_train_batches"),
        ({"max_epochs": -1, "max_steps": 6}, DataLoader(Stream(), 4), "an epoch.*set trainer.limit_train_batches"),
        ({"max_epochs": -1}, batches(24, 4), "the run.*set trainer.max_epochs or trainer.max_steps"),
    ],
    ids=["an epoch without end", "likewise, limited by steps", "a run without end"],
)
def test_a_schedule_of_unknown_length_is_refused(
    options: dict[str, Any], data: "DataLoader[Any]", sentence: str
) -> None:
    model = classifier(scheduler=warmup_cosine)
    with pytest.raises(ValueError, match=rf"A schedule needs .*{sentence}.*model.scheduler=null"):
        trainer(**options).fit(model, data)
    if isinstance(data.dataset, Stream):
        run = trainer(**options, limit_train_batches=3)  # the way out
        run.fit(model, data)
        assert run.global_step == 6


# ---- compilation


@pytest.mark.parametrize(("compile", "stage", "count"), [(True, "fit", 1), (True, "test", 0), (False, "fit", 0)])
def test_the_net_is_compiled_in_place_before_training_only(
    compile: bool, stage: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, calls = small_net(), []
    compile_net = net.compile
    monkeypatch.setattr(net, "compile", lambda: [calls.append(stage), compile_net()])  # compiles at the first batch
    names = list(classifier(net).state_dict())
    model = classifier(net, compile=compile)
    model.setup(stage)
    assert len(calls) == count
    assert model.net is net
    assert list(model.state_dict()) == names
    assert names[0] == "net.features.1.weight"


class Noisy(Classifier):
    """A task that adds a number to its images, a random one in training."""

    def prepare(self, batch: Any) -> Any:
        added = torch.rand(()) if self.training else torch.tensor(1.0)
        return batch[0] + added, batch[-1]


def test_a_task_may_prepare_its_inputs_for_all_that_uses_it() -> None:
    options = {"score": "acc", "mode": "max"}
    net = small_net()
    model = Noisy(net, partial(torch.optim.SGD, lr=0.1), None, nn.CrossEntropyLoss(), (1, 4, 4), **options).eval()
    images, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % 3
    loss, outputs = model.step((images, labels), model.test_metrics)
    expected = net(images + 1)
    torch.testing.assert_close(outputs["class"], expected)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(expected, labels))

    def run(array: Any) -> dict[str, Any]:
        shown.append(torch.from_numpy(array))
        return {"class": net(shown[-1]).detach().numpy()}

    shown: list[Tensor] = []
    card = model.output_card({"heads": {"class": ["a", "b", "c"]}})
    agreement(run, run, [(images, labels)], model, card)
    assert all(torch.equal(array, images + 1) for array in shown)


def test_a_net_with_more_logits_than_classes_is_refused_before_training(
    compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    wrong = ("model.net.num_classes=12", f"paths.output_dir={tmp_path}", "callbacks=none", "logger=none")
    cfg = compose("model=mnist_sdn_8k", "data=synthetic", *wrong)
    with pytest.raises(ValueError, match=r"outputs 12 logits for class, but there are 10 classes: set .*classes=10"):
        train(cfg)


class Shuffled(Classifier):
    """Flip images in ways that evaluation must not: at random, or by their position in the batch."""

    by: Callable[[int], Tensor]

    def prepare(self, batch: Any) -> Any:
        images, turns = batch[0], self.by(len(batch[0]))
        return torch.where(turns.view(-1, 1, 1, 1) > 0, images.flip(3), images), turns


@pytest.mark.parametrize("by", [lambda count: torch.randint(2, (count,)), lambda count: torch.arange(count) % 2])
def test_what_evaluation_makes_of_an_image_must_not_depend_on_others_or_on_chance(
    by: Callable[[int], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shuffled, "by", staticmethod(by), raising=False)
    task = Shuffled(small_net(), adamw, None, nn.CrossEntropyLoss(), (1, 4, 4), score="acc", mode="max")
    with pytest.raises(ValueError, match=r"Shuffled\.prepare returns something else"):
        trainer().validate(task, batches(32, 16), verbose=False)
    with pytest.raises(ValueError, match=r"Shuffled\.prepare returns something else"):
        trainer().test(task, batches(32, 16), verbose=False)
