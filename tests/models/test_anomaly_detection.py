"""Anomaly detection: the score is the error of each image, and only the test data have anomalies."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from src.models.anomaly_detection import AnomalyDetection


def task(anomalies: list[int]) -> AnomalyDetection:
    adamw = partial(torch.optim.AdamW, lr=0.01)
    return AnomalyDetection(nn.Identity(), adamw, None, (1, 8, 8), score="mse", mode="min", anomalies=anomalies)


def measured(model: AnomalyDetection, errors: list[float], labels: Tensor, batch_size: int = 2) -> dict[str, Tensor]:
    """Return the test metrics for images with these errors."""
    metrics = model.make_metrics("test")
    for values, targets in zip(torch.tensor(errors).split(batch_size), labels.split(batch_size), strict=True):
        clean = torch.zeros(len(values), 1, 8, 8)
        outputs = {"image": clean + values.sqrt().view(-1, 1, 1, 1)}
        wanted = model.targets([clean, targets])
        model.update_metrics(metrics, model.losses(outputs, wanted), outputs, wanted)
    return metrics.compute()


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 3, 1, 5, 3]), torch.tensor([[0, 3], [3, 0], [1, 3], [5, 1], [3, 3]])]
)
def test_auroc_is_the_share_of_pairs_in_which_the_anomaly_has_the_larger_error(labels: Tensor) -> None:
    errors = [0.01, 0.02, 0.03, 40.0, 50.0]  # of the labels 0, 3, 1, 5, 3; an error may be beyond 1
    values = measured(task([3]), errors, labels)
    assert values["auroc"].item() == pytest.approx(4 / 6)  # 0.02 is below 0.03 and 40
    assert measured(task([3, 1]), errors, labels)["auroc"].item() == pytest.approx(4 / 6)
    assert values["mse"].item() == pytest.approx(sum(errors) / 5)


def test_without_both_kinds_there_is_no_area() -> None:
    assert measured(task([3]), [0.1, 0.2], torch.tensor([1, 2]))["auroc"].isnan()


def test_validation_and_training_have_no_anomalies_to_tell() -> None:
    model = task([3])
    for stage in ("train", "val"):
        metrics = model.make_metrics(stage)
        loss, _ = model.step(model.example_batch(4), metrics)
        assert loss.isfinite() and "auroc" not in metrics.compute()


def test_no_class_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"anomalies=\[\] names no class: set data\.held_out"):
        task([])
