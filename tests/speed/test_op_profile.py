"""The profile names the modules that take the time."""

from collections.abc import Callable

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from src.data.synthetic import SyntheticDataModule
from src.models.classifier import Classifier
from src.speed.op_profile import OUTSIDE, OperatorProfile


class Costly(nn.Module):
    """Some matrix products, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(192))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(20):
            x = x @ self.weight
        return x


@pytest.fixture
def costly() -> Classifier:
    net = nn.Sequential(nn.Flatten(), Costly(), nn.Linear(192, 4))
    return Classifier(net, torch.optim.AdamW, None, nn.CrossEntropyLoss(), (3, 8, 8), score="acc", mode="max")


@pytest.fixture
def data() -> SyntheticDataModule:
    return SyntheticDataModule(
        num_classes=4, channels=3, image_size=8, train_size=640, val_size=16, test_size=16, batch_size=64
    )


def test_the_slowest_module_leads_with_its_operators(
    costly: Classifier, data: SyntheticDataModule, trainer: Callable[..., L.Trainer]
) -> None:
    profile = OperatorProfile(skip=1, steps=3)
    trainer(profile).fit(costly, data)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in profile.table.splitlines()]
    assert lines[0] == ["module", "forward", "backward", "share", "slowest operators"]
    modules = [line for line in lines[2:] if line[0] != OUTSIDE]  # a busy machine may make that the slowest
    name, forward, backward, share, operators = modules[0]
    assert name == "net.1 (Costly)" and operators.startswith("mm ")
    assert float(forward) > 0 and float(backward) > 0 and 0 < int(share.removesuffix("%")) <= 100
    assert {line[0] for line in lines[2:]} >= {"net.0 (Flatten)", "net.2 (Linear)", OUTSIDE}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in costly.net.modules())


def test_it_ends_with_the_epoch_and_reports_once(
    costly: Classifier, data: SyntheticDataModule, trainer: Callable[..., L.Trainer], tmp_path: object
) -> None:
    profile = OperatorProfile(skip=2, steps=100, rows=1)
    logger = TensorBoardLogger(str(tmp_path))
    texts = []
    logger.experiment.add_text = lambda *arguments: texts.append(arguments)
    trainer(profile, max_epochs=2, logger=logger).fit(costly, data)
    assert texts == [("op_profile", profile.table, 9)]  # the tenth and last step of the first epoch
    assert len(profile.table.splitlines()) == 3


def test_a_failing_run_leaves_no_hooks(
    costly: Classifier, data: SyntheticDataModule, trainer: Callable[..., L.Trainer]
) -> None:
    class Fail(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        trainer(Fail(), OperatorProfile(skip=0)).fit(costly, data)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in costly.net.modules())


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="steps=0"):
        OperatorProfile(steps=0)
