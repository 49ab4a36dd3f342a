"""A run's record may provide choices and plain values to a run that replays it, but no permissions or locations."""

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import ConfigCompositionException

from src.run import recorded_overrides
from src.run.file_names import CONFIG, OVERRIDES
from src.run.recorded_overrides import replayable_overrides
from tests.conftest import composed


@pytest.fixture(autouse=True)
def what_was_composed_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose the same choices once for all tests."""
    monkeypatch.setattr(
        recorded_overrides, "compose", lambda name, choices: composed(name, tuple(one.input_line for one in choices))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run, with the configuration that it stored."""
    (tmp_path / ".hydra").mkdir()
    stored = {"model": {"net": {"dropout": 0.25}}, "data": {"folder": "???", "num_classes": {"digit": 10}}}
    (tmp_path / CONFIG).write_text(yaml.safe_dump(stored))
    return tmp_path


def replayable(folder: Path, *overrides: Any, **options: Any) -> list[str]:
    (folder / OVERRIDES).write_text(yaml.safe_dump(list(overrides)))
    return replayable_overrides(folder, **options)


GOOD = [
    "model=mnist_cnn_8k",
    "model=null",
    "experiment=example",
    "callbacks=[default,cpu_autotune]",
    "model/optimizer=sgd",
    "data/augmentation@data.augmentation=digits",
    "logger=none",
    "model.optimizer.lr=1e-3",
    "model.optimizer.lr=1",
    "trainer.max_epochs=3",
    "trainer=ddp",
    "trainer=ddp_sim",
    "trainer.limit_train_batches=7",
    "+trainer.num_sanity_val_steps=0",
    "++trainer.max_epochs=3",
    "model.compile=auto",
    "+model.net.dropout=0.1",
    "model.net._target_=src.models.components.simple_mlp.SimpleMLP",
    "data.batch_size=16",
    "++data.val_size=100",
    "data.data_dir=/somewhere/else",
    "data.data_dir='/odd, name/it\\'s'",
    "paths.data_dir=/somewhere/else",
    "ckpt_path=/somewhere/else/last.ckpt",
    "callbacks.early_stopping.monitor=val/loss",
    "callbacks.early_stopping=null",
    "callbacks.model_checkpoint.filename='best_{epoch}'",
    "callbacks.model_checkpoint.filename='{epoch:03d}_{val/acc:.4f}'",
    "~callbacks.early_stopping",
    "tags=[a,b]",
    "optimized_metric=val/acc_best",
    "optimized_metric=[val/acc_best,latency_ms]",
    "task_name=mine",
    "test=false",
]


@pytest.mark.parametrize("override", GOOD)
def test_choices_and_plain_values_are_replayed(override: str, folder: Path) -> None:
    reads_elsewhere = ["data.download=false"] if "data_dir" in override else []  # and downloads nothing there
    assert replayable(folder, override, "data.download=true") == [override, *reads_elsewhere]


SAID_AGAIN = [
    "paths.output_dir=/etc",
    "paths.log_dir=../..",
    "paths.root_dir=/",
    "trainer.default_root_dir=/etc",
    "callbacks.model_checkpoint.dirpath=/etc",
    "callbacks.image_report.dirpath=docs",
    "logger.tensorboard.save_dir=/etc",
    "+logger.tensorboard.dir=docs",  # wandb's has such a key
    "+logger.tensorboard.sub_dir=/tmp",
]


@pytest.mark.parametrize("override", SAID_AGAIN)
def test_where_something_is_written_has_to_be_said_again(
    override: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert replayable(folder, "trainer.max_epochs=3", override) == ["trainer.max_epochs=3"]
    assert override in caplog.text and "set it again on the command line if needed" in caplog.text
    caplog.clear()
    assert replayable(folder, override, cli_keys=[override.lstrip("+").partition("=")[0]]) == [] and not caplog.text


STARTS_PROCESSES = [
    "trainer.devices=64",
    "trainer.devices=auto",
    "trainer.devices=[0,1]",
    "trainer.num_nodes=2",
    "+trainer.num_nodes=2",
    "+trainer.strategy=ddp",
    "++trainer.strategy=ddp_spawn",
]


@pytest.mark.parametrize("override", STARTS_PROCESSES)
@pytest.mark.parametrize("choice", ["trainer=cpu", "trainer=ddp"])
def test_which_processes_run_has_to_be_said_again(
    override: str, choice: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert replayable(folder, choice, override) == [choice]
    assert f"it sets which processes run: {override}; set it again on the command line if needed" in caplog.text
    caplog.clear()
    assert replayable(folder, choice, override, cli_keys=[override.lstrip("+").partition("=")[0]]) == [choice]
    assert not caplog.text


@pytest.mark.parametrize(("count", "taken"), [(1, True), (2, True), (3, False), (0, False)])
def test_as_many_processes_as_there_are_cpus_are_resumed(
    count: int, taken: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_overrides, "allowed_cpus", lambda: 2)
    override = f"trainer.devices={count}"
    assert replayable(folder, "trainer=ddp", override) == (["trainer=ddp", override] if taken else ["trainer=ddp"])


@pytest.mark.parametrize(
    "override", ["allowed_targets=[os]", "seed=3", "resume=/x", "reproduce=/x", "extras.next_commands=['rm -rf /']"]
)
def test_permissions_are_left_out(override: str, folder: Path) -> None:
    assert replayable(folder, override) == []


REFUSED = [
    "hydra.callbacks.x._target_=os.system",
    "+hydra.job.env_set.X=1",
    "hydra/launcher=joblib",
    "--config-dir=/tmp",
    "+hydra={callbacks:{x:1}}",
    "experiment=../../elsewhere",
    "experiment=/tmp/elsewhere",
    "experiment=file:///tmp/x",
    "callbacks=[default,/tmp/elsewhere]",
    "callbacks=[default,a/../../b]",
    "+callbacks.x._target_=os.system",
    "+callbacks.x={_target_:os.mkdir,path:x}",
    "+callbacks.x=[{_target_:os.mkdir,path:x}]",
    "model.net={_target_:os.mkdir,path:x}",
    "model.net._target_=os.system",
    "model.net._target_=lightning.pytorch.trainer.trainer.Trainer.fit",
    "callbacks.early_stopping._target_=lightning.pytorch.callbacks.DeviceStatsMonitor",
    "logger.tensorboard._target_=lightning.pytorch.loggers.CSVLogger",
    "trainer._target_=os.system",
    "+model.net._args_=[1]",
    "+model.net._recursive_=true",
    "+nowhere.x=1",
    "+nowhere=1",
    "trainer.no_such_key=1",
    "model.optimizer={lr:1,_target_:os.system}",
    "model.optimizer.lr={a:1}",
    "trainer.max_epochs=[1]",
    "trainer.max_epochs=true",
    "train=7",
    "tags=1",
    "task_name=../../x",
    "task_name=/tmp/x",
    "task_name=~/x",
    "logger.tensorboard.name=../../x",
    "callbacks.model_checkpoint.filename=/tmp/x",
    "callbacks.model_checkpoint.filename='{epoch].__reduce_ex__.__globals__[torch].os.sep[0}tmp'",
    "callbacks.model_checkpoint.filename='a{epoch].__reduce_ex__.__globals__[torch].os.environ[TOKEN}'",
    "callbacks.model_checkpoint.filename='{epoch.real}'",
    "callbacks.model_checkpoint.filename='{epoch!r}'",
    "callbacks.model_checkpoint.filename='{epoch:{epoch}}'",
    "callbacks.model_checkpoint.filename='{epoch'",
    "logger.tensorboard.name=$HOME",
    "+trainer.profiler=../x",
    "model.optimizer.lr=${oc.env:HOME}",
    "model.optimizer.lr='${oc.create:{a:1}}'",
    "+model.net.${x}=1",
    "+logger@data=csv",
    "+data@model.net=mnist",
    "+callbacks@_global_.data=default",
    "+data.data_dir=/etc",
]


@pytest.mark.parametrize("override", REFUSED)
def test_a_record_that_wants_more_is_refused(override: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"refused|damaged|set \S+=… again"):
        replayable(folder, "data=synthetic", override)


DAMAGED: list[Any] = [
    {"a": 1},
    [1, 2],
    None,
    "a=1",
    ["no override"],
    ["model.optimizer.lr=1,2"],
    ["model.optimizer.lr=range(1,3)"],
    ["a\x1b[2Jb=1"],
    ["a=" + "[" * 200],
    ["x" * 10_000 + "=1"],
    ["a=1"] * 1_000,
    ["seed=" + "9" * 5_000],
]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: str(content)[:20])
def test_what_is_no_list_of_overrides_is_damaged(content: Any, folder: Path) -> None:
    (folder / OVERRIDES).write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"overrides.yaml is damaged"):
        replayable_overrides(folder)
    (folder / OVERRIDES).unlink()
    with pytest.raises(ValueError, match=r"overrides.yaml cannot be read"):
        replayable_overrides(folder)


PAIRS = ",".join(["[0.1,0.2]"] * 30)


@pytest.mark.parametrize("value", [f"[{PAIRS}]", f"'{'([' * 20}'"], ids=["pairs", "quoted"])
def test_only_nested_brackets_count(value: str, folder: Path) -> None:
    override = f"+model.net.sizes={value}"
    assert replayable(folder, override) == [override]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("[" * 21 + "]" * 21, "is nested too deeply"),
        ("[']'," * 21, "is nested too deeply"),  # the quoted ones close nothing
        ("[\\]," * 21, "is nested too deeply"),
        ("x" * 4_000, "is too long"),
    ],
    ids=["brackets", "quoted", "escaped", "characters"],
)
def test_the_size_of_an_override_is_limited(value: str, fault: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"damaged: \+model.net.sizes=.*… {fault}"):
        replayable(folder, f"+model.net.sizes={value}")


def test_own_code_is_replayed_if_the_command_line_allows_it(folder: Path) -> None:
    override = "+callbacks.mine._target_=my_package.Callback"
    with pytest.raises(ValueError, match=r"callbacks.mine._target_=my_package.Callback is refused.*allowed_targets"):
        replayable(folder, "allowed_targets=[my_package]", override)
    assert replayable(folder, override, allowed=["my_package"]) == [override]


def test_what_refers_to_others_takes_the_value_it_came_to(folder: Path) -> None:
    assert replayable(folder, "+model.net.dropout=${data.x}") == ["+model.net.dropout=0.25"]
    assert replayable(folder, "data=mnist_multihead", "data.num_classes=${x}") == [
        "data=mnist_multihead",
        "data.num_classes={digit:10}",
    ]
    photos = ["data=image_folder", "data.folder=${oc.env:PHOTOS}"]
    with pytest.raises(ValueError, match=r"set data\.folder=… again"):
        replayable(folder, *photos)
    assert replayable(folder, *photos, cli_keys=["data.folder"]) == photos[:1]


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ("model=lnist_cnn_8k", r"there is no model=lnist_cnn_8k in this checkout. Did you mean mnist_cnn_8k"),
        ("quantization=default", "Could not override 'quantization'"),
    ],
)
def test_a_choice_that_this_checkout_lacks_is_named(choice: str, sentence: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"overrides.yaml is refused: .*{sentence}"):
        replayable(folder, choice, "trainer.max_epochs=3")


def test_an_error_of_hydra_without_a_message_is_told_by_its_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ConfigCompositionException

    monkeypatch.setattr(recorded_overrides, "compose", fail)
    with pytest.raises(ValueError, match=r"overrides.yaml is refused: ConfigCompositionException\."):
        replayable(folder, "model=mnist_cnn_8k", "trainer.max_epochs=3")
