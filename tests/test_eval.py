"""Testing a trained net again, from its run directory or from a checkpoint alone."""

import json
import shutil
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import open_dict

from src.eval import evaluate
from src.models.classifier import Classifier
from src.run.instantiate import load_model
from tests.conftest import TINY_RUN
from tests.programs import fresh, run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run of a net and data that are not the defaults."""
    folder = tmp_path_factory.mktemp("run")
    overrides = ["model=mnist_cnn_8k", "data=synthetic", "data.channels=1", "data.image_size=28", "data.test_size=64"]
    overrides += [*TINY_RUN, f"hydra.run.dir={folder}"]
    result = run("train", *overrides)
    assert result.returncode == 0, result.stderr
    return folder


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_directory_is_enough(run_dir: Path, tmp_path: Path) -> None:
    result = fresh("eval", f"run_dir={run_dir}", f"hydra.run.dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert figures(tmp_path)["test/acc"] == figures(run_dir)["test/acc"]
    assert figures(tmp_path)["test/loss"] == pytest.approx(figures(run_dir)["test/loss"])


def test_the_runs_data_folder_is_kept(data_dir: Path, tmp_path: Path) -> None:
    trained = run("train", *TINY_RUN, f"paths.data_dir={data_dir}", f"hydra.run.dir={tmp_path}/run")
    assert trained.returncode == 0, trained.stderr
    result = run("eval", f"run_dir={tmp_path}/run", f"hydra.run.dir={tmp_path}/eval")
    assert result.returncode == 0, result.stderr
    assert figures(tmp_path / "eval")["test/acc"] == figures(tmp_path / "run")["test/acc"]


def test_a_checkpoint_alone_is_enough_and_overrides_win(run_dir: Path, tmp_path: Path) -> None:
    alone = shutil.copy(run_dir / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt")
    result = run("eval", f"ckpt_path={alone}", "data.batch_size=7", f"hydra.run.dir={tmp_path}/eval")
    assert result.returncode == 0, result.stderr
    saved = (tmp_path / "eval" / ".hydra" / "config.yaml").read_text()
    assert "batch_size: 7" in saved and "SimpleCNN" in saved


def test_data_chosen_on_the_command_line_replace_the_runs(run_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    result = run(
        "eval",
        f"run_dir={run_dir}",
        "data=mnist",
        "data.val_size=100",
        f"data.data_dir={data_dir}",
        f"hydra.run.dir={tmp_path}",
    )
    assert result.returncode == 0, result.stderr
    assert "MNISTDataModule" in (tmp_path / ".hydra" / "config.yaml").read_text()


def test_python_composes_and_evaluates(run_dir: Path, tmp_path: Path) -> None:
    with hydra.initialize("../configs", version_base="1.3"):
        cfg = hydra.compose("eval.yaml", overrides=["ckpt_path=.", f"paths.log_dir={tmp_path}"])
        other = hydra.compose("eval", [f"run_dir={run_dir}", "data=synthetic", f"paths.log_dir={tmp_path}"])
    with open_dict(cfg):  # as tests of other templates do
        cfg.trainer.accelerator, cfg.data.num_workers, cfg.logger = "cpu", 0, None
    with pytest.raises(FileNotFoundError, match=r"ckpt_path=\. is not a file"):
        evaluate(cfg)
    cfg.ckpt_path = str(next((run_dir / "checkpoints").glob("epoch_*.ckpt")))
    found, objects = evaluate(cfg)
    assert found["test/acc"].item() == figures(run_dir)["test/acc"]
    assert objects["logger"] == []
    assert Path(objects["cfg"].paths.output_dir).parent == tmp_path / "eval" / "runs"

    other.data.channels, other.data.image_size, other.data.test_size = (
        1,
        28,
        5,
    )  # data on the command line replace the run's
    _, objects = evaluate(other)
    assert objects["cfg"].data.test_size == 5 and "batch_size" in objects["cfg"].data


def test_a_checkpoint_alone_gives_a_model(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "checkpoints" / "last.ckpt"
    alone = shutil.copy(path, tmp_path / "alone.ckpt")
    model = load_model(alone)
    weights = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not model.training and model(model.example_input_array).shape == (2, 10)


def test_a_model_is_built_from_a_checkpoint_under_the_rules_of_eval(run_dir: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["config"]["model"]["net"] = {"_target_": "os.mkdir", "path": str(tmp_path / "ran")}
    torch.save(checkpoint, tmp_path / "hostile.ckpt")
    with pytest.raises(ValueError, match="refused"):
        load_model(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "ran").exists()


def test_lightnings_own_way_to_load_says_how(run_dir: Path) -> None:
    path = run_dir / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match="instantiate import load_model"):
        Classifier.load_from_checkpoint(path)
    built = load_model(path)
    parts = {"net": built.net, "optimizer": None, "scheduler": None, "criterion": built.criterion}
    loaded = Classifier.load_from_checkpoint(path, **parts, input_shape=(1, 28, 28), score="acc", mode="max")
    assert type(loaded) is Classifier and loaded.net is built.net


MISTAKES = {
    "nothing said": ([], "either run_dir="),
    "both said": (["run_dir=a", "ckpt_path=b"], "either run_dir="),
    "no run": (["run_dir={tmp}"], "holds no run"),
    "no folder": (["run_dir={tmp}/none"], "is not a folder"),
    "no file": (["ckpt_path={tmp}/none.ckpt"], "is not a file"),
    "truncated": (["ckpt_path={tmp}/truncated.ckpt"], "truncated or damaged"),
    "a bit flipped": (["ckpt_path={tmp}/flipped.ckpt"], "the checksum of"),
    "no checkpoint": (["ckpt_path={tmp}/other.ckpt"], "is not a checkpoint of a run"),
    "unknown key": (["run_dir={run}", "data.batch=3"], "data.batch_size"),
    "another architecture": (["run_dir={run}", "model.net.hidden_size=9"], "does not match the model: 3 of"),
    "way out of it": (["run_dir={run}", "model.net.hidden_size=9"], "Omit model=… when naming a run"),
    "a net of its own": (["run_dir={run}", "model=mnist_sdn_8k"], "model=mnist_sdn_8k cannot be chosen"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_a_sentence(name: str, run_dir: Path, tmp_path: Path) -> None:
    arguments, words = MISTAKES[name]
    (tmp_path / "truncated.ckpt").write_bytes((run_dir / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    content = bytearray((run_dir / "checkpoints" / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.ckpt").write_bytes(content)
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    result = run(
        "eval", *(text.format(tmp=tmp_path, run=run_dir) for text in arguments), f"hydra.run.dir={tmp_path}/eval"
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert words in result.stderr.splitlines()[0], result.stderr


@pytest.mark.parametrize("program", ["eval", "describe"])
def test_a_run_that_failed_before_it_trained_is_known_as_such(program: str, tmp_path: Path) -> None:
    folder = tmp_path / "failed"
    failed = run("train", "model=hybrid_light", f"data.folder={tmp_path}/none", f"hydra.run.dir={folder}")
    assert failed.returncode == 1
    result = run(program, f"run_dir={folder}", f"hydra.run.dir={tmp_path}/{program}")
    assert result.returncode == 1
    assert f"there is no checkpoint in {folder}/checkpoints; {folder}/traceback.txt tells why it" in result.stderr
