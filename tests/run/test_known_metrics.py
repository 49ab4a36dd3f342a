"""Names of metrics that a run will never log are refused; others may appear later."""

from collections.abc import Callable

import lightning as L
import pytest

from src.data.in_memory import InMemoryDataModule
from src.run.known_metrics import KnownMetrics

MONITOR = "callbacks.early_stopping.monitor"


class Steps(L.Callback):
    """Count the steps that a run takes."""

    count = 0

    def on_train_batch_end(self, *_: object) -> None:
        self.count += 1


@pytest.fixture
def fit(
    trainer: Callable[..., L.Trainer], model: L.LightningModule, data: InMemoryDataModule
) -> Callable[..., tuple[int, str]]:
    """Train with metric names under a key; return the number of steps, and the error message if there is one."""

    def fit_(key: str, *names: str, **options: int) -> tuple[int, str]:
        steps, said = Steps(), ""
        try:
            trainer(KnownMetrics({key: names}), steps, **options).fit(model, datamodule=data)
        except ValueError as error:
            said = str(error)
        return steps.count, said

    return fit_


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("val/ac", "val/acc"),
        ("test/ac", "test/acc"),
        ("val/loss_best", "val/loss"),
        ("acc", "val/acc"),
        ("val_acc", "val/acc"),
    ],
)
def test_a_figure_that_a_run_will_not_have_is_noticed_before_it_trains(
    name: str, nearest: str, fit: Callable[..., tuple[int, str]]
) -> None:
    steps, said = fit("optimized_metric", "val/acc", name, max_epochs=9, num_sanity_val_steps=1)
    assert steps == 0
    assert said.startswith(f"optimized_metric={name} is not a metric of this run. ") and nearest in said


@pytest.mark.parametrize("name", ["val/acc", "test/acc", "val/loss", "train/loss", "latency_ms", "params", "int8/acc"])
def test_a_figure_that_a_run_may_have_is_waited_for(name: str, fit: Callable[..., tuple[int, str]]) -> None:
    assert fit("optimized_metric", name, max_epochs=2, num_sanity_val_steps=1) == (8, "")


@pytest.mark.parametrize("name", ["val/ac", "test/acc", "val/acc_best"])
def test_what_is_there_at_the_end_alone_cannot_be_monitored(name: str, fit: Callable[..., tuple[int, str]]) -> None:
    steps, said = fit(MONITOR, name, num_sanity_val_steps=1)
    assert (
        steps == 0
        and said.startswith(f"{MONITOR}={name} is not a metric of this run. Did you mean ")
        and "val/acc" in said
    )


def test_without_a_sanity_check_the_first_validation_tells(fit: Callable[..., tuple[int, str]]) -> None:
    steps, said = fit(MONITOR, "val/ac", max_epochs=9, num_sanity_val_steps=0)
    assert steps == 4 and "Did you mean val/acc" in said


@pytest.mark.parametrize("epochs", [1, 9])
def test_names_of_training_are_known_after_the_first_epoch(epochs: int, fit: Callable[..., tuple[int, str]]) -> None:
    steps, said = fit("optimized_metric", "train/ac", max_epochs=epochs)
    assert steps == 4 and "Did you mean train/acc" in said
