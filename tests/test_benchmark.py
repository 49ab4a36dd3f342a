"""`src/benchmark.py` measures any net, and jobs of a sweep share one table."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from src.benchmark import benchmark
from src.config.paths import ROOT
from src.deploy.exporting import export
from src.deploy.speed import measure_exported
from src.run.instantiate import instantiate
from src.speed import benchmark as benchmark_module
from src.speed import benchmark_report
from src.speed.benchmark_report import add_to_report, recommended_batch_size, recorded_score
from src.system.locks import locked

PARAMS = {"mnist_sdn_8k": 7_973, "mnist_mh_cnn_422k": 422_866, "mnist_autoencoder_5k": 5_097, "scenes_unet_64k": 62_555}
SMALL = ("seconds=0.05", "train_batch_size=4", "inference_batch_sizes=[2]", "threads=1")


@pytest.mark.parametrize("model", ["mnist_sdn_8k", "mnist_autoencoder_5k"])
def test_an_exported_model_joins_the_table(
    model: str, compose: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = compose(f"model={model}", *SMALL, "inference_batch_sizes=[2,3]", config_name="benchmark")
    task = instantiate(cfg.model)
    card = {"mode": "L", "resize": "pad_or_stretch", "image_size": 28, "mean": [0.5], "std": [0.5]}
    card |= {"heads": {"class": [str(label) for label in range(10)]}}
    images = [(torch.randn(8, 1, 28, 28), torch.arange(8))]
    found = export(task, card, lambda: images, tmp_path / "exported", "openvino", "fp32", max_drop=100)
    cfg.exported = [str(tmp_path / "exported")]
    benchmark(cfg, tmp_path)
    own, exported = json.loads((tmp_path / "benchmark.json").read_text())["models"]
    assert exported["params"] == own["params"] == PARAMS[model]
    assert (exported["memory_format"], exported["precision"], exported["threads"]) == ("openvino", "fp32", 1)
    assert set(exported["inference_images_per_second"]) == {"2", "3"} and exported["latency_ms_p50"] > 0
    assert (exported["score"], exported["score_value"]) == (task.score, found.value)
    assert (own["score"], own["score_value"]) == (task.score, None) and "train_images_per_second" not in exported
    assert f"test {task.score}" in capsys.readouterr().out


@pytest.mark.parametrize("model", PARAMS)
def test_a_net_is_measured(model: str, compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    data = ["data=mnist_multihead"] if "mh" in model else []
    cfg = compose(f"model={model}", *data, *SMALL, config_name="benchmark")
    figures, _ = benchmark(cfg, tmp_path)
    benchmark(compose("model=mnist_sdn_8k", *SMALL, "precision=bf16-mixed", config_name="benchmark"), tmp_path)
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["precision"] for row in report["models"]] == ["32-true", "bf16-mixed"]
    assert report["models"][0]["params"] == figures["params"] == PARAMS[model]
    assert report["environment"]["cpu"]
    for row in report["models"]:
        assert row["train_images_per_second"] > 0 and row["inference_images_per_second"]["2"] > 0
        assert 0 < row["latency_ms_p50"] <= row["latency_ms_p95"]
        assert row["train_share_of_peak"] > 0 and row["train_spread"] >= 0 and row["train_peak_memory_mb"] > 50
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_the_score_is_that_of_the_latest_run_that_tested_the_model(tmp_path: Path) -> None:
    assert recorded_score("a_net", tmp_path) is None
    tests = [("a_net", {"test/acc": 0.5}), ("a_net", {}), ("b", {"test/acc": 0.9}), ("c", {"test/mse": 0.1})]
    for number, (model, metrics) in enumerate(tests):
        folder = tmp_path / "runs" / str(number)
        folder.mkdir(parents=True)
        record = {"choices": {"model": model, "data": "mnist"}, **({"score": "mse"} if model == "c" else {})}
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "metrics.json").write_text(json.dumps(metrics))
    assert recorded_score("a_net", tmp_path) == {"score": "acc", "score_value": 0.5, "score_data": "mnist"}
    assert recorded_score("c", tmp_path) == {"score": "mse", "score_value": 0.1, "score_data": "mnist"}
    (tmp_path / "runs" / "3" / ".hydra").mkdir()
    overrides = tmp_path / "runs" / "3" / ".hydra" / "overrides.yaml"
    overrides.write_text("- model.optimizer.lr=1\n")
    assert recorded_score("c", tmp_path) is not None
    for changed in ("- model.net.hidden_size=3\n", "- +model.net={hidden_size:3}\n", "damaged"):
        overrides.write_text(changed)
        assert recorded_score("c", tmp_path) is None, "the score is of another net"


def test_each_score_has_a_column_and_a_row_of_plots_and_former_reports_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"threads": 1, "memory_format": "onnx", "precision": "fp32", "compiled": False, "params": 9}
    row |= {"inference_images_per_second": {"2": 5.0}, "latency_ms_p50": 1.0, "latency_ms_p95": 2.0}
    former = {**row, "model": "former", "accuracy": 0.875, "accuracy_data": "mnist"}
    (tmp_path / "benchmark.json").write_text(json.dumps({"models": [former]}))
    scores = {"score": "mse", "score_value": 0.0625, "score_data": "mnist"}
    add_to_report([{**row, "model": "new", **scores}], tmp_path)
    rows = json.loads((tmp_path / "benchmark.json").read_text())["models"]
    assert [(one["score"], one["score_value"]) for one in rows] == [("acc", 0.875), ("mse", 0.0625)]
    shown = capsys.readouterr().out
    assert "test acc" in shown and "test mse" in shown
    first, second = (line for line in shown.splitlines() if "1.00 / 2.00 ms" in line)
    assert first.count("0.8750 (mnist)") == 1 and second.count("0.0625 (mnist)") == 1  # in their columns alone
    with Image.open(tmp_path / "benchmark.png") as plot:
        assert plot.height > 900  # two rows of 4.5 inches


ROW: dict[str, Any] = {"threads": 1, "memory_format": "onnx", "precision": "fp32", "compiled": False, "params": 9}
ROW |= {"inference_images_per_second": {"2": 5.0}, "latency_ms_p50": 1.0, "latency_ms_p95": 2.0}
ROW |= {"score": "acc", "score_value": 0.5, "score_data": "mnist"}


def models_in(folder: Path) -> list[str]:
    return [row["model"] for row in json.loads((folder / "benchmark.json").read_text())["models"]]


def test_jobs_that_end_at_once_do_not_lose_each_others_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_to_report([{**ROW, "model": "first"}], tmp_path)
    write = benchmark_report.write_json
    monkeypatch.setattr(benchmark_report, "PATIENCE", 0)

    def write_late(path: Path, content: dict[str, Any]) -> None:
        monkeypatch.setattr(benchmark_report, "write_json", write)
        with pytest.raises(ValueError, match="is in use: another job writes its report there"):
            add_to_report([{**ROW, "model": "third"}], tmp_path)  # which would be missing from the file written here
        write(path, content)

    monkeypatch.setattr(benchmark_report, "write_json", write_late)
    with locked(tmp_path):  # as the sweep or the run has it
        add_to_report([{**ROW, "model": "second"}], tmp_path)
    add_to_report([{**ROW, "model": "third"}], tmp_path)
    assert models_in(tmp_path) == ["first", "second", "third"]


def test_the_smallest_batch_that_is_nearly_as_fast_as_the_fastest_is_recommended(
    compose: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # the machine is half as fast in the second turn, and batches of 16 are slow in the third
    times = {"4": [1.0, 2.0, 1.0], "8": [1.04, 2.08, 1.0], "16": [2.0, 4.0, 9.0], "32": [4.3, 8.6, 4.3]}
    blocks = benchmark_module.blocks
    monkeypatch.setattr(
        benchmark_module, "blocks", lambda steps, *options: times if "4" in steps else blocks(steps, *options)
    )
    cfg = compose("model=mnist_sdn_8k", *SMALL, "batch_sizes=[32,4,16,8,4]", config_name="benchmark")
    rows = benchmark(cfg, tmp_path)[0]["batch_sizes"]
    assert [row["batch_size"] for row in rows] == [4, 8, 16, 32]
    assert [row["images_per_second"] for row in rows] == [4.0, 8 / 1.04, 4.0, 32 / 4.3]
    assert [row["share_of_best"] for row in rows] == pytest.approx([0.52, 1.0, 1.04, 32 * 1.04 / 4.3 / 8])
    assert all(row["peak_memory_mb"] > 50 for row in rows)
    assert json.loads((tmp_path / "benchmark.json").read_text())["models"][0]["batch_sizes"] == rows
    shown = capsys.readouterr().out
    assert "of the best" in shown and "data.batch_size=8" in shown
    assert recommended_batch_size([{**row, "share_of_best": 0.95 + row["batch_size"] / 1000} for row in rows]) == 4


DAMAGED = {
    "cut": '{"models": [{"mo',
    "no mapping": "[]",
    "no rows": '{"models": 3}',
    "a row of nothing": '{"models": [{}]}',
    "text for a number": json.dumps({"models": [{**ROW, "model": "a", "latency_ms_p50": "x"}]}),
    "no text": "\udcff",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_report_is_kept_aside(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "benchmark.json").write_text(DAMAGED[name], errors="surrogateescape")
    add_to_report([{**ROW, "model": "new"}], tmp_path)
    assert models_in(tmp_path) == ["new"] and "benchmark.json is damaged" in caplog.text
    (kept,) = tmp_path.glob("benchmark.damaged-*.json")
    assert kept.read_text(errors="surrogateescape") == DAMAGED[name] and kept.name in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("file", ["run.json", "metrics.json"])
@pytest.mark.parametrize("content", ["pipe", "folder", "no link's end", "{", "[]", '{"choices": 3, "test/acc": "x"}'])
def test_runs_whose_files_are_damaged_have_no_score(file: str, content: str, tmp_path: Path) -> None:
    for name in ("whole", "damaged"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text('{"choices": {"model": "a_net", "data": "mnist"}}')
        (tmp_path / name / "metrics.json").write_text('{"test/acc": 0.5}')
    path = tmp_path / "damaged" / file
    path.unlink()
    places = {"pipe": os.mkfifo, "folder": Path.mkdir, "no link's end": lambda path: path.symlink_to("nothing")}
    places.get(content, lambda path: path.write_text(content))(path)
    for folder in (tmp_path, tmp_path / "whole"):
        assert recorded_score("a_net", folder) == {"score": "acc", "score_value": 0.5, "score_data": "mnist"}
    assert recorded_score("a_net", tmp_path / "damaged") is None


def test_a_sweep_from_the_command_line_gives_one_table(tmp_path: Path) -> None:
    arguments = ["-m", "model=mnist_sdn_8k,mnist_cnn_8k", "precision=32-true", f"hydra.sweep.dir={tmp_path}", *SMALL]
    result = subprocess.run(
        [sys.executable, "src/benchmark.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env={"COLUMNS": "300", "PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "benchmark.json").read_text())["models"]
    assert [row["model"] for row in rows] == ["mnist_sdn_8k", "mnist_cnn_8k"]
    table = result.stdout.rpartition("images/s:")[2]
    assert "mnist_sdn_8k" in table and "mnist_cnn_8k" in table and "7,978" in table


def test_an_exported_program_is_run_only_if_it_is_trusted(
    compose: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose(*SMALL, "model=mnist_sdn_8k", "compiled=false", config_name="benchmark")
    card = {"mode": "L", "resize": "pad_or_stretch", "image_size": 28, "mean": [0.5], "std": [0.5]}
    card |= {"heads": {"class": [str(label) for label in range(10)]}}
    images = [(torch.randn(8, 1, 28, 28), torch.arange(8))]
    export(instantiate(cfg.model), card, lambda: images, tmp_path / "exported", "torch", "fp32", max_drop=100)
    loaded: list[Path] = []
    load = torch.export.load
    monkeypatch.setattr(torch.export, "load", lambda path: loaded.append(path) or load(path))
    cfg.exported = [str(tmp_path / "exported")]
    with pytest.raises(ValueError, match=r"exported is a torch model, .* trusted=true"):
        benchmark(cfg, tmp_path)
    assert not loaded and not (tmp_path / "benchmark.json").exists()  # nothing was measured before the error
    with pytest.raises(ValueError, match="trusted=true"):
        measure_exported(cfg.exported[0], cfg)
    cfg.trusted = True
    benchmark(cfg, tmp_path)
    assert loaded == [tmp_path / "exported" / "model.pt2"]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("threads=0", "threads=0: this process can use"),
        ("precision=fp8", "precision=fp8 must be one of 32-true, bf16-mixed"),
        ("batch_sizes=[8,0]", r"batch_sizes=\[8, 0\] must be numbers of images"),
        ("batch_sizes=[x]", r"batch_sizes=\['x'\] must be numbers of images"),
        ("memory_format=nhwc", "memory_format=nhwc must be one of contiguous, channels_last"),
    ],
)
def test_a_wrong_setting_is_answered_with_a_sentence(
    setting: str, sentence: str, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence):
        benchmark(compose(*SMALL, setting, config_name="benchmark"), tmp_path)
