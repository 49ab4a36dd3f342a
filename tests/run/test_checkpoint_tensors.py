"""A checkpoint whose tensors do not match the run is refused before any computation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.run.checkpoint_tensors import check_optimizer_state
from src.run.checkpoints import RESUME_KEY, check_fits
from src.run.random_state import random_state, set_random_state
from src.train import train

SMALL = ("data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=64", "data.val_size=16")
SMALL += ("data.test_size=16", "data.batch_size=16", "trainer=cpu", "logger=none", "model=mnist_sdn_8k")
SMALL += ("callbacks.image_report=null", "callbacks.progress_bar=null", "test=false")


def quantized() -> Tensor:
    return torch.quantize_per_tensor(torch.zeros(2, 3), 1.0, 0, torch.qint8)


BAD_STATES: dict[str, Any] = {
    "too short": torch.zeros(3),
    "one element": torch.zeros(1),
    "other order": torch.zeros(3, 2),
    "expanded": torch.zeros(1).expand(2, 3),
    "gaps": torch.zeros(2, 6)[:, ::2],
    "integers": torch.zeros(2, 3, dtype=torch.int8),
    "complex": torch.zeros(2, 3, dtype=torch.complex64),
    "sparse": torch.zeros(2, 3).to_sparse(),
    "meta": torch.zeros(2, 3, device="meta"),
    "quantized": quantized(),
    "text": "zeros",
    "a list": [torch.zeros(2, 3)],
}


def trained(make: Any) -> tuple[torch.optim.Optimizer, dict[str, Any]]:
    """An optimizer of a matrix (2, 3) and a scalar after a step, and its state."""
    parameters = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(()))]
    optimizer = make(parameters)
    sum((parameter**2).sum() for parameter in parameters).backward()
    optimizer.step()
    return optimizer, optimizer.state_dict()


@pytest.mark.parametrize("bad", BAD_STATES)
def test_a_state_that_is_none_of_its_parameter_is_refused(bad: str) -> None:
    optimizer, state = trained(lambda parameters: torch.optim.AdamW(parameters, fused=True))
    check_optimizer_state(optimizer, state)
    state["state"][0]["exp_avg"] = BAD_STATES[bad]
    with pytest.raises(ValueError, match=r"does not match this run: exp_avg of parameter 0"):
        check_optimizer_state(optimizer, state)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["state"][0].update(step=torch.zeros(2)),
        lambda state: state["state"].update({0: torch.zeros(3)}),
        lambda state: state.update(state=[]),
        lambda state: state["param_groups"].append({"params": []}),
        lambda state: state["param_groups"][0].update(params=[0]),
        lambda state: state["param_groups"][0].update(params="01"),
        lambda state: state["param_groups"][0].update(params=[1, 0]),
        lambda state: state["param_groups"][0].update(lr=torch.zeros(3)),
    ],
)
def test_so_is_one_of_another_form(change: Callable[[dict[str, Any]], Any]) -> None:
    optimizer, state = trained(lambda parameters: torch.optim.AdamW(parameters, fused=True))
    change(state)
    with pytest.raises(ValueError, match="does not match this run"):
        check_optimizer_state(optimizer, state)


@pytest.mark.parametrize(("entry", "kind"), [([torch.zeros(2, 3)], "list"), (torch.zeros(2, 3), "Tensor")])
def test_an_entry_that_is_no_dict_is_named(entry: Any, kind: str) -> None:
    optimizer, state = trained(lambda parameters: torch.optim.AdamW(parameters, fused=True))
    state["state"][0] = entry
    with pytest.raises(ValueError, match=f"the entry of parameter 0 is not a dict but {kind};"):
        check_optimizer_state(optimizer, state)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad", "NAdam", "ASGD", "RMSprop", "Adafactor"])
def test_the_own_state_of_an_optimizer_is_taken(name: str) -> None:
    options = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    optimizer, state = trained(lambda parameters: getattr(torch.optim, name)(parameters, lr=0.1, **options))
    check_optimizer_state(optimizer, state)
    assert state["state"]


def test_filters_in_another_order_of_memory_are_taken() -> None:
    parameter = nn.Parameter(torch.ones(4, 3, 2, 2).to(memory_format=torch.channels_last))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    (parameter**2).sum().backward()
    optimizer.step()
    check_optimizer_state(optimizer, optimizer.state_dict())


def test_a_training_goes_on_with_no_state_of_another_shape(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    train(compose(*SMALL, "trainer.max_epochs=1"))
    last = tmp_path / "checkpoints" / "last.ckpt"
    good = torch.load(last, weights_only=True)
    for change in (
        lambda own: own["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(3)),
        lambda own: own[RESUME_KEY]["processes"][0]["random"]["numpy"].__setitem__(2, 10**9),
        lambda own: next(iter(own[RESUME_KEY]["processes"][0]["metrics"].values())).update(loss=torch.ones(3)),
    ):
        bad = torch.load(last, weights_only=True)
        change(bad)
        torch.save(bad, tmp_path / "bad.ckpt")
        with pytest.raises(ValueError, match=r"exp_avg of parameter 0 has the shape \(3,\)|numpy|running metrics"):
            train(compose(*SMALL, "trainer.max_epochs=2", f"ckpt_path={tmp_path}/bad.ckpt"))
    torch.save(good, tmp_path / "good.ckpt")
    figures, _ = train(compose(*SMALL, "trainer.max_epochs=2", f"ckpt_path={tmp_path}/good.ckpt"))
    assert figures["epochs"] == 2


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("text", "'weight' is not a tensor but str"),
        (torch.zeros(2, 3).to_sparse(), "'weight' is sparse"),
        (torch.zeros(2, 3, device="meta"), "on the device meta"),
        (quantized(), "'weight' is quantized"),
        (torch.zeros(2, 3, dtype=torch.complex64), "weight is (2, 3) of complex numbers in the checkpoint"),
        (torch.zeros(2, 3, dtype=torch.int8), "weight is (2, 3) of integers in the checkpoint"),
    ],
)
def test_weights_are_numbers_of_the_models_kind(value: Any, sentence: str, tmp_path: Path) -> None:
    path, model = tmp_path / "weights.ckpt", nn.Linear(3, 2)
    torch.save({"state_dict": {**model.half().state_dict()}}, path)
    check_fits(path, model.float())
    torch.save({"state_dict": {**model.state_dict(), "weight": value}}, path)
    with pytest.raises(ValueError) as refusal:
        check_fits(path, model)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("generator", "damage"),
    [
        ("python", lambda state: state["python"][1].__setitem__(-1, 10**9)),
        ("python", lambda state: state["python"][1].pop()),
        ("numpy", lambda state: state["numpy"].__setitem__(2, 625)),
        ("numpy", lambda state: state["numpy"].__setitem__(2, -1)),
        ("numpy", lambda state: state["numpy"][1].__setitem__(0, 2**32)),
        ("numpy", lambda state: state["numpy"][1].pop()),
        ("torch", lambda state: state.update(torch=torch.zeros(3, dtype=torch.uint8))),
        ("torch", lambda state: state.update(torch=state["torch"].float())),
        ("cuda", lambda state: state.update(cuda=["x"])),
        ("its form", lambda state: state.update(numpy="x")),
        ("its form", lambda state: state["numpy"].__setitem__(0, "PCG64")),
    ],
)
def test_a_random_state_is_checked_before_it_is_set(generator: str, damage: Callable[[Any], Any]) -> None:
    state, before = random_state(), random_state()
    damage(state)
    with pytest.raises(ValueError, match=rf"random state .* damaged \({generator}\)"):
        set_random_state(state)
    assert str(random_state()) == str(before)
    set_random_state(before)
