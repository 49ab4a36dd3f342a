"""The average of a Schedule-Free optimizer is validated and saved, and neither changes the training."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from src.run.used_weights import KEY, UsedWeights

LR, BETA = 0.1, 0.9


class ScheduleFreeSGD(torch.optim.SGD):
    """Keeps z beside the weights y that are trained; the ones to be used are x, with y = (1 - β) z + β x."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=LR)
        self.param_groups[0] |= {"trains": True, "steps": 0}

    def train(self) -> None:
        self._switch(True, 1 - BETA)

    def eval(self) -> None:
        self._switch(False, 1 - 1 / BETA)

    @torch.no_grad()
    def _switch(self, trains: bool, weight: float) -> None:
        (group,) = self.param_groups
        if group["trains"] != trains:
            for parameter in group["params"]:
                if "z" in self.state[parameter]:
                    parameter.lerp_(self.state[parameter]["z"], weight)
        group["trains"] = trains

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = closure()
        (group,) = self.param_groups
        assert group["trains"]
        group["steps"] += 1
        for y in group["params"]:
            z = self.state[y].setdefault("z", y.detach().clone())
            x = y.lerp(z, 1 - 1 / BETA)
            z -= LR * y.grad
            x.lerp_(z, 1 / group["steps"])
            y.copy_(z.lerp(x, BETA))
        return loss


class Line(L.LightningModule):
    """A linear regression, and the gradients, trained and validated weights of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(300, 1, bias=False)
        self.gradients: list[Tensor] = []
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.trained.append(self.weight())
        return (self.line(batch[0]) - batch[1]).square().mean()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        assert self.line.weight.grad is not None
        self.gradients.append(self.line.weight.grad.clone())

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        if batch_idx == 0:
            self.validated.append(self.weight())

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return ScheduleFreeSGD(self.parameters())

    def weight(self) -> Tensor:
        return self.line.weight.detach().clone()


def run(folder: Path, validated: bool = True, ckpt_path: Path | None = None, max_epochs: int = 3) -> tuple[Line, Any]:
    """Train for epochs of 2 steps, each of which is saved."""
    torch.manual_seed(0)
    model, data = Line(), TensorDataset(torch.randn(8, 300) / 20, torch.randn(8, 1))
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        limit_val_batches=1.0 if validated else 0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[UsedWeights(), ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, every_n_epochs=1)],
    )
    trainer.fit(model, DataLoader(data, 4), DataLoader(data, 4), ckpt_path=ckpt_path, weights_only=True)
    return model, trainer


@pytest.fixture
def whole(tmp_path: Path) -> Line:
    return run(tmp_path)[0]


def test_the_average_is_validated_and_left_in_the_net(whole: Line) -> None:
    """By its formula: x is the mean of all z, each a step from the last along the gradient at y."""
    z = [whole.trained[0]]
    for gradient in whole.gradients:
        z.append(z[-1] - LR * gradient)
    x = [torch.stack(z[1 : steps + 1]).mean(0) if steps else z[0] for steps in range(7)]
    for step, trained in enumerate(whole.trained):
        torch.testing.assert_close(trained, (1 - BETA) * z[step] + BETA * x[step])
    for epoch, validated in enumerate(whole.validated[1:], start=1):  # after the sanity check
        torch.testing.assert_close(validated, x[2 * epoch])
    torch.testing.assert_close(whole.weight(), x[6])


def test_validation_and_checkpoints_do_not_change_the_training(whole: Line, tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "plain", validated=False)
    assert all(map(torch.equal, whole.trained, plain.trained))


def test_a_checkpoint_holds_the_average_and_training_goes_on_exactly(whole: Line, tmp_path: Path) -> None:
    checkpoint = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    assert torch.equal(checkpoint["state_dict"]["line.weight"], whole.validated[1])
    assert torch.equal(checkpoint[KEY]["line.weight"], whole.trained[2])
    resumed, trainer = run(tmp_path / "resumed", ckpt_path=tmp_path / "epoch=0.ckpt")
    assert len(resumed.trained) == 4 and all(map(torch.equal, resumed.trained, whole.trained[2:]))
    assert torch.equal(resumed.weight(), whole.weight())
    data = DataLoader(TensorDataset(torch.randn(4, 300), torch.randn(4, 1)), 4)
    trainer.test(resumed, data, ckpt_path=tmp_path / "epoch=0.ckpt", verbose=False, weights_only=True)
    assert torch.equal(resumed.validated[-1], whole.validated[1])


def test_weights_of_another_net_are_refused(whole: Line, tmp_path: Path) -> None:
    checkpoint = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    checkpoint[KEY]["line.weight"] = torch.zeros(1)
    torch.save(checkpoint, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match=r"trained_weights do not match this run: line\.weight has the shape \(1,\)"):
        run(tmp_path, ckpt_path=tmp_path / "bad.ckpt")


def test_any_other_optimizer_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Line, "configure_optimizers", lambda self: torch.optim.SGD(self.parameters(), lr=LR))
    model, _ = run(tmp_path)
    assert KEY not in torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    assert torch.equal(model.validated[1], model.trained[2])
