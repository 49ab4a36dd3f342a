"""Tuning chooses by measurement, changes only the speed, and cleans up."""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from src.data.synthetic import SyntheticDataModule
from src.models.classifier import Classifier
from src.run.checkpoints import read_checkpoint
from src.run.record import RunRecord
from src.speed import cpu_tuning, measure
from src.speed.cpu_tuning import CpuTuning, match_state_strides
from src.speed.tuning import Settings
from src.system import cpu


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pretend to have two CPUs, and set one thread before a run."""
    monkeypatch.setattr(cpu, "affinity", lambda: {0, 1})
    monkeypatch.setattr(cpu, "cgroup_quota", lambda root=None: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    assert torch.get_num_threads() == 1, "a run left its threads behind"


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], list[Settings]]:
    """Pretend that some settings are the fastest by far; the real train step still runs."""

    def pretend(settings: Settings) -> list[Settings]:
        measured: list[Settings] = []

        def train_step(model: Any, batch: Any, context: Any) -> Callable[[], None]:
            is_last = model.net[0].weight.is_contiguous(memory_format=torch.channels_last)
            memory_format = "channels_last" if is_last else "contiguous"
            measured.append(Settings(torch.get_num_threads(), memory_format, context.__self__.precision))
            return measure.train_step(model, batch, context)

        monkeypatch.setattr(cpu_tuning, "train_step", train_step)
        monkeypatch.setattr(cpu_tuning, "seconds_per_step", lambda *_: 1.0 if measured[-1] == settings else 2.0)
        return measured

    return pretend


def flip(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.where(torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5, images.flip(3), images), targets


def make_data() -> SyntheticDataModule:
    return SyntheticDataModule(
        num_classes=4,
        channels=3,
        image_size=8,
        train_size=64,
        val_size=16,
        test_size=16,
        batch_size=16,
        augmentation=flip,
    )


def make_model() -> Classifier:
    """Make a net with everything that tuning could disturb: batch statistics, dropout, a filter of four dimensions."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(512, 4)
    )
    return Classifier(
        net,
        partial(torch.optim.AdamW, lr=0.01, fused=True),
        None,
        nn.CrossEntropyLoss(),
        (3, 8, 8),
        score="acc",
        mode="max",
    )


def train(trainer: Callable[..., L.Trainer], *callbacks: L.Callback, **options: Any) -> Classifier:
    model = make_model()
    torch.manual_seed(1)
    trainer(*callbacks, max_epochs=2, **options).fit(model, make_data())
    return model


def assert_equal(a: Classifier, b: Classifier) -> None:
    for (name, ours), theirs in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_tuned_run_equals_one_with_the_settings_fixed_bit_for_bit(
    memory_format: str,
    precision: str,
    trainer: Callable[..., L.Trainer],
    fastest: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = Settings(2, memory_format, precision)
    measured = fastest(chosen)
    monkeypatch.setattr(cpu_tuning, "has_native_bf16", lambda: True)
    tuning = CpuTuning("tune", memory_format="tune", precision="tune")
    tuned = train(trainer, tuning)
    assert tuning.chosen == chosen
    assert len(set(measured)) == 8  # threads × formats × precisions
    fixed = train(trainer, CpuTuning(2, memory_format=memory_format, precision=precision))
    assert_equal(tuned, fixed)
    untouched = train(trainer, CpuTuning(1))
    if chosen != Settings(2, "contiguous", "32-true"):  # threads alone may well give the same sums
        assert any(not torch.equal(a, b) for a, b in zip(tuned.parameters(), untouched.parameters(), strict=True))


def test_the_default_stays_where_nothing_is_faster(trainer: Callable[..., L.Trainer], fastest: Any) -> None:
    fastest(Settings(7, "none", "none"))
    tuning = CpuTuning("tune", memory_format="tune")
    assert_equal(train(trainer, tuning), train(trainer))
    assert tuning.chosen == Settings(1, "contiguous", "32-true")


def test_the_log_and_the_record_tell_what_was_measured(
    trainer: Callable[..., L.Trainer], fastest: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = Settings(2, "channels_last", "32-true")
    fastest(chosen)
    with caplog.at_level(logging.INFO):
        train(trainer, CpuTuning("tune", memory_format="tune"), RunRecord(str(tmp_path), {}, {"seed": 1}))
    assert "2 threads, channels_last, 32-true  <- chosen" in caplog.text
    assert "1 threads, contiguous, 32-true  <- the default" in caplog.text
    assert "gain over the default: 2.00x" in caplog.text
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["seed"] == 1 and record["threads"] == 2  # set aside for the run
    assert record["cpu_tuning"]["chosen"] == {
        "threads": 2,
        "memory_format": "channels_last",
        "precision": "32-true",
        "compiled": False,
    }
    assert len(record["cpu_tuning"]["candidates"]) == 4 and record["cpu_tuning"]["gain"] == 2


def test_a_resumed_run_keeps_the_choice_and_ends_the_same(
    trainer: Callable[..., L.Trainer], fastest: Any, tmp_path: Path
) -> None:
    fastest(Settings(2, "channels_last", "32-true"))
    whole = train(trainer, CpuTuning("tune", memory_format="tune"))

    half = trainer(CpuTuning("tune", memory_format="tune"), max_epochs=1)
    torch.manual_seed(1)
    model = make_model()
    torch.manual_seed(1)
    half.fit(model, make_data())
    state = torch.get_rng_state()
    half.save_checkpoint(tmp_path / "half.ckpt")
    checkpoint = read_checkpoint(tmp_path / "half.ckpt")
    assert all(tensor.is_contiguous() for tensor in checkpoint["state_dict"].values())
    assert checkpoint["state_dict"]._metadata[""]  # the versions of the modules
    moments = [value for one in checkpoint["optimizer_states"][0]["state"].values() for value in one.values()]
    assert moments and all(value.is_contiguous() for value in moments)

    measured = fastest(Settings(1, "contiguous", "32-true"))  # now others would win
    tuning = CpuTuning("tune", memory_format="tune")
    resumed, model = trainer(tuning, max_epochs=2), make_model()
    torch.set_rng_state(state)
    resumed.fit(model, make_data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert tuning.chosen == Settings(2, "channels_last", "32-true") and not measured
    assert_equal(model, whole)


def test_the_state_of_an_optimizer_follows_the_layout_of_the_weights() -> None:
    """torch's fused AdamW reads both as plain memory, and is silently wrong where their strides differ."""

    def step_with(memory_format: torch.memory_format) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        weight, gradient, first = (torch.randn(4, 3, 2, 2, generator=generator) for _ in range(3))
        parameter = nn.Parameter(weight.contiguous(memory_format=memory_format))
        parameter.grad = gradient.contiguous(memory_format=memory_format)
        optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=True)
        optimizer.state[parameter] = {"step": torch.tensor(3.0), "exp_avg": first, "exp_avg_sq": first.square()}
        match_state_strides(optimizer)
        assert optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()
        optimizer.step()
        return parameter.detach()

    torch.testing.assert_close(step_with(torch.channels_last), step_with(torch.contiguous_format))


def test_everything_is_restored(trainer: Callable[..., L.Trainer]) -> None:
    model, run = make_model(), trainer(CpuTuning(2, memory_format="channels_last", precision="bf16-mixed"))
    seen: list[Any] = []
    step = model.training_step
    model.training_step = lambda *batch: (  # type: ignore[method-assign]
        seen.append((torch.get_num_threads(), torch.is_autocast_enabled("cpu"))) or step(*batch)
    )
    run.fit(model, make_data())
    assert set(seen) == {(2, True)}
    assert torch.get_num_threads() == 1 and run.precision == "32-true"
    assert model.net[0].weight.is_contiguous()
    run.test(model, make_data(), verbose=False)
    assert torch.get_num_threads() == 1


def test_threads_come_back_after_a_failure(trainer: Callable[..., L.Trainer]) -> None:
    model = make_model()

    def fail(*_: Any) -> None:
        assert torch.get_num_threads() == 2
        raise RuntimeError("a fault")

    model.training_step = fail  # type: ignore[method-assign,assignment]
    with pytest.raises(RuntimeError, match="a fault"):
        trainer(CpuTuning("auto")).fit(model, make_data())
    assert torch.get_num_threads() == 1


def test_a_late_change_of_interop_threads_is_warned_of(
    trainer: Callable[..., L.Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    for threads in (1, 2):  # a process may choose once; one of them is another than it has
        train(trainer, CpuTuning(1, interop_threads=threads))
    assert f"interop_threads stays {torch.get_num_interop_threads()}" in caplog.text


def test_a_net_that_cannot_be_compiled_runs_uncompiled(
    trainer: Callable[..., L.Trainer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: nn.Module) -> None:
        self.register_forward_pre_hook(lambda *_: 1 / 0)

    monkeypatch.setattr(nn.Module, "compile", fail)
    tuning = CpuTuning(1, compile="tune")
    train(trainer, tuning)
    assert tuning.chosen is not None and not tuning.chosen.compiled
    assert "runs uncompiled because torch.compile fails here: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("before", [False, True], ids=["plain net", "net compiled already"])
def test_compiling_is_chosen_where_it_is_faster_and_taken_back(
    before: bool, trainer: Callable[..., L.Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compilation is played by torch's own eager call, to save half a minute."""
    measured: list[bool] = []

    def train_step(model: Any, batch: Any, context: Any) -> Callable[[], None]:
        measured.append(cpu_tuning.is_compiled(model.net))
        return measure.train_step(model, batch, context)

    monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", self._call_impl))
    monkeypatch.setattr(cpu_tuning, "train_step", train_step)
    monkeypatch.setattr(cpu_tuning, "seconds_per_step", lambda *_: 1.0 if measured[-1] else 2.0)
    tuning, model, seen = CpuTuning(1, compile="tune"), make_model(), []
    if before:
        model.net.compile()
    step = model.training_step
    model.training_step = lambda *batch: seen.append(cpu_tuning.is_compiled(model.net)) or step(*batch)  # type: ignore
    trainer(tuning).fit(model, make_data())
    assert tuning.chosen == Settings(1, "contiguous", "32-true", compiled=True)
    assert set(measured) == ({True} if before else {False, True})
    assert set(seen) == {True} and cpu_tuning.is_compiled(model.net) == before


def test_the_configuration_beats_the_settings_of_a_checkpoint(trainer: Callable[..., L.Trainer]) -> None:
    tuning = CpuTuning(1, memory_format="channels_last")
    tuning.load_state_dict({"threads": 2, "memory_format": "contiguous", "precision": "bf16-mixed", "compiled": False})
    train(trainer, tuning)
    assert tuning.chosen == Settings(1, "channels_last", "32-true")


def test_emulated_bf16_is_not_tried(
    trainer: Callable[..., L.Trainer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cpu_tuning, "has_native_bf16", lambda: False)
    tuning = CpuTuning(1, memory_format="tune", precision="tune")
    with caplog.at_level("INFO"):
        precisions = {one.precision for one in tuning.candidates(trainer(), make_model())}
    assert precisions == {"32-true"}
    assert "bf16 is not tried: this CPU emulates it" in caplog.text


def test_weights_of_another_precision_are_measured_as_they_are(trainer: Callable[..., L.Trainer]) -> None:
    tuning = CpuTuning("tune", memory_format="tune", precision="tune")
    train(trainer, tuning, precision="bf16-true")
    assert tuning.chosen is not None and tuning.chosen.precision == "bf16-true"


WRONG = [
    ({"threads": 0}, "threads=0: this process can use 1 to 2 threads, or auto, or tune"),
    ({"threads": 3}, "threads=3: this process can use 1 to 2 threads"),
    ({"interop_threads": -1}, "interop_threads=-1"),
    ({"memory_format": "nhwc"}, "memory_format=nhwc must be one of contiguous, channels_last, tune, null"),
    ({"precision": "16"}, "precision=16 must be one of 32-true, bf16-mixed"),
    ({"compile": True}, "compile=True must be one of tune, null"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_a_wrong_setting_is_answered_with_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CpuTuning(**options)


def test_measuring_needs_a_datamodule(trainer: Callable[..., L.Trainer]) -> None:
    loader = torch.utils.data.DataLoader([(torch.zeros(3, 8, 8), 0)])
    with pytest.raises(ValueError, match="datamodule"):
        trainer(CpuTuning("tune")).fit(make_model(), loader)
