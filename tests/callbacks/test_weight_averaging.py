"""The average of the weights follows its formula, and is validated, saved and tested."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from src.callbacks.weight_averaging import AverageWeights

Trainer = Callable[..., L.Trainer]


class Weights(L.Callback):
    """Keeps the weights after every step, and those in use at the end of every validation."""

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.trained.append(flat(pl_module))

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.is_last_batch:
            self.validated.append(flat(pl_module))


def flat(module: nn.Module) -> Tensor:
    """All parameters of a module in one vector."""
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def fit(trainer: Trainer, model: L.LightningModule, data: Any, *callbacks: L.Callback) -> Weights:
    """Train for 3 epochs of 4 steps."""
    torch.manual_seed(0)  # of the order of the samples
    weights = Weights()
    trainer(*callbacks, weights, max_epochs=3, num_sanity_val_steps=0).fit(model, data)
    return weights


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_an_exponential_average_follows_its_formula(
    trainer: Trainer, model: L.LightningModule, data: Any, decay: float
) -> None:
    """The first weights; then d · average + (1 - d) · weights, where d rises to the decay."""
    weights = fit(trainer, model, data, AverageWeights(decay=decay))
    expected = weights.trained[0]
    for n, trained in enumerate(weights.trained[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * trained
    torch.testing.assert_close(flat(model), expected, rtol=0, atol=1e-7)
    assert not torch.equal(flat(model), weights.trained[-1])


def test_the_mean_of_the_last_epochs(trainer: Trainer, model: L.LightningModule, data: Any) -> None:
    """SWA, of the weights at the ends of the epochs after the first third."""
    weights = fit(trainer, model, data, AverageWeights(decay=None, start=1 / 3, every_n_steps=None))
    torch.testing.assert_close(flat(model), (weights.trained[7] + weights.trained[11]) / 2)


def test_validation_uses_the_average_and_training_does_not(
    trainer: Trainer, model: L.LightningModule, data: Any
) -> None:
    """Each step starts from the weights of the last one, whatever was validated between."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = fit(trainer, model, data, AverageWeights(start=0.5))
    model.load_state_dict(before)
    plain = fit(trainer, model, data)
    assert all(map(torch.equal, weights.trained, plain.trained))
    first, *_, last = weights.validated
    assert torch.equal(first, plain.trained[3]), "nothing is averaged in the first half of the run"
    assert not torch.equal(last, plain.trained[-1])


def test_a_checkpoint_holds_the_average_and_is_tested_with_it(
    trainer: Trainer, model: L.LightningModule, data: Any, tmp_path: Path
) -> None:
    """Lightning's own callback would test the weights of the last step."""
    weights = Weights()
    saved = ModelCheckpoint(tmp_path, save_last=True)
    one = trainer(AverageWeights(), weights, saved, max_epochs=3, enable_checkpointing=True)
    one.fit(model, data)
    averaged = flat(model)
    model.load_state_dict(torch.load(saved.last_model_path, weights_only=True)["current_model_state"])
    assert torch.equal(flat(model), weights.trained[-1])
    one.test(model, data, ckpt_path=saved.last_model_path, verbose=False)
    assert torch.equal(flat(model), averaged)


def test_weights_in_channels_last_are_averaged_in_channels_last(trainer: Trainer) -> None:
    """Otherwise each tensor would be averaged on its own."""
    average = AverageWeights()
    average._average_model = torch.optim.swa_utils.AveragedModel(net := nn.Conv2d(3, 4, 3))
    net.to(memory_format=torch.channels_last)
    module: Any = net
    average.on_train_start(trainer(max_epochs=1), module)
    assert average._average_model.module.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(average._average_model.module.weight, net.weight)


@pytest.mark.parametrize(
    ("options", "named"), [({"decay": 1.0}, "decay=1.0"), ({"start": 1.0}, "start=1.0"), ({"every_n_steps": 0}, "=0")]
)
def test_values_out_of_range_are_named(options: dict[str, Any], named: str) -> None:
    """One sentence with the value."""
    with pytest.raises(ValueError, match=named):
        AverageWeights(**options)


def test_a_run_without_end_has_no_fraction(trainer: Trainer, model: L.LightningModule, data: Any) -> None:
    """A start at half of it would never come."""
    with pytest.raises(ValueError, match="no end"):
        trainer(AverageWeights(start=0.5), max_epochs=-1).fit(model, data)
