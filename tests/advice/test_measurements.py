"""Reading the results of the benchmarks."""

import json
from pathlib import Path
from typing import Any

import pytest

from src.advice import measurements
from src.advice.measurements import chosen, read_evidence, read_models, recipe_gains
from src.config.paths import CONFIGS

MODELS: dict[str, dict[str, Any]] = {
    "mnist_airbench_64k": {"net": "AirbenchNet", "shape": [1, 28, 28]},
    "sunspots_lstm_6k": {"net": "RecurrentNet", "shape": [22, 1]},
    "scenes_unet_210k": {"net": "UNet", "shape": [1, 64, 64]},
    "cifar10_cnn_210k": {"net": "SimpleCNN", "shape": [3, 32, 32]},
}
TASK = {"minutes": 2.0, "score": "miou", "int8": 0.7}
SCENES = TASK | {"metrics": {"test/miou": 0.8, "test/acc": 0.9, "epochs": 3}}


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("command", "model", "data"),
    [
        ("experiment=quickstart seed=42", "mnist_airbench_64k", "mnist_5k"),
        ("experiment=digits_60s seed=42", "mnist_airbench_210k", "mnist_5k"),  # which includes the former experiment
        ("model=sunspots_lstm_6k seed=42", "sunspots_lstm_6k", "sunspots"),
        ("experiment=mnist_anomaly data=mnist_5k", "mnist_autoencoder_58k", "mnist_5k"),
    ],
)
def test_a_command_tells_model_and_data(command: str, model: str, data: str) -> None:
    words = dict(word.split("=") for word in command.split())
    assert (chosen("model", words), chosen("data", words)) == (model, data)


def test_seeds_are_one_measurement_and_the_tasks_own_score_counts(tmp_path: Path) -> None:
    runs = {f"experiment=quickstart seed={seed}": {"test/acc": seed / 100, "train_seconds": 60.0} for seed in (1, 2, 9)}
    short = {"model=cifar10_cnn_210k data=fashion_mnist test=false": {"val/acc": 0.5}}
    write(tmp_path, recipes=runs | short, tasks={"experiment=scenes_unet seed=42": SCENES})
    found = {one.model: one for one in read_evidence(MODELS, tmp_path)}
    assert {*found} == {"mnist_airbench_64k", "scenes_unet_210k"}  # runs without a test are ignored
    digits, scenes = found["mnist_airbench_64k"], found["scenes_unet_210k"]
    assert (digits.score, digits.value, digits.seeds, digits.minutes) == ("acc", 0.02, 3, 1.0)
    assert (scenes.score, scenes.value, scenes.epochs) == ("miou", 0.8, 3)
    assert (digits.experiment, scenes.run) == (
        "quickstart",
        (3, 3_700),
    ) and digits.run is None  # epochs unknown
    assert scenes.int8_change == pytest.approx(-0.1) and scenes.int8_speedup is None


def test_int8_is_that_of_the_benchmark_of_quantization(tmp_path: Path) -> None:
    kinds = {"float32": {"accuracy": 0.9, "images_per_second": 10.0}}
    kinds |= {"static": {"accuracy": 0.89, "images_per_second": 25.0}}
    key = "model=cifar10_cnn_210k data=fashion_mnist data.image_size=24 data.channels=1"
    (one,) = read_evidence(MODELS, write(tmp_path, quantization={key: kinds}))
    assert (one.value, one.int8_speedup, one.shape, one.experiment) == (0.9, 2.5, (1, 24, 24), None)
    assert one.int8_change == pytest.approx(-0.01)


def test_a_technique_is_compared_with_its_own_plain_run(tmp_path: Path) -> None:
    plain = "model=cifar10_cnn_210k recipe=plain trainer.max_epochs=6 test=false seed=1"
    runs = {plain: {"val/acc": 0.8}, f"{plain} model.optimizer.lr=0.006": {"val/acc": 0.82}}
    gains = recipe_gains(MODELS, write(tmp_path, recipes=runs))
    assert {*gains} == {"SimpleCNN"} and gains["SimpleCNN"].epochs == 6
    assert gains["SimpleCNN"].points == {"model.optimizer.lr=0.006": pytest.approx(2)}


def test_missing_counts_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"models\.json is missing or damaged: python benchmarks/models\.py writes it"):
        read_models(tmp_path)


def test_every_named_model_is_counted_and_data_that_decide_exist() -> None:
    names = {path.stem for path in CONFIGS.glob("model/*.yaml")} - {"timm", "simple_mlp_256_128"}
    assert {*read_models()} == names
    assert all((CONFIGS / "data" / f"{name}.yaml").is_file() for name in measurements.TRAINED_ON)
    assert len(read_evidence(read_models())) >= 14
