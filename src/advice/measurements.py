"""Read the counts and measurements in benchmarks/results/, written by the programs in benchmarks/."""

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from src.config.paths import CONFIGS, ROOT
from src.system.json_files import part, read_json

RESULTS = ROOT / "benchmarks" / "results"
# a run is compared by the first of these among its test metrics: a segmentation also has an accuracy
SCORES = ("auroc", "miou", "mase", "acc", "mse")
# number of images, texts or windows that the nets were trained on
TRAINED_ON = {"mnist_5k": 3_500, "mnist_5k_rows": 3_500, "fashion_mnist": 55_000, "fashion_mnist_rows": 55_000}
TRAINED_ON |= {"digit_scenes": 3_700}


@dataclass(frozen=True)
class Evidence:
    """Results of a model on some data: medians over seeds."""

    model: str
    data: str
    shape: tuple[int, ...]  # of an input
    score: str
    value: float
    seeds: int
    epochs: int | None
    minutes: float | None  # of training
    int8_change: float | None  # of the score
    int8_speedup: float | None  # at batches of 32
    source: str

    @property
    def samples(self) -> int | None:
        """Number of training samples; None if unknown."""
        return TRAINED_ON.get(self.data)

    @property
    def run(self) -> tuple[int, int] | None:
        """Epochs and number of training samples; None if either is unknown."""
        return (self.epochs, self.samples) if self.epochs and self.samples else None

    @property
    def experiment(self) -> str | None:
        """Name of the experiment that trained it, if one did."""
        found = re.search(r"\bexperiment=(\S+)", self.source)
        return found[1] if found else None


def read_models(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the counts and speeds of models by name.

    Raises:
        ValueError: the file is missing or damaged.
    """
    models = read_json(folder / "models.json")
    if not models:
        raise ValueError(f"{folder / 'models.json'} is missing or damaged: python benchmarks/models.py writes it.")
    return models


def read_evidence(models: Mapping[str, Mapping[str, Any]], folder: Path = RESULTS) -> list[Evidence]:
    """Return the results of nets from the committed benchmarks of tasks, recipes and int8."""
    runs: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for source in ("tasks", "recipes", "quantization"):
        for command, result in read_json(folder / f"{source}.json").items():
            words = dict(word.partition("=")[::2] for word in command.split())
            model, run = chosen("model", words) or "", tested(result)
            if model in models and run:
                data = chosen("data", words) or ""
                settings = " ".join(word for word in command.split() if not word.startswith("seed="))
                run["shape"] = shape_of(models[model]["shape"], words)
                runs.setdefault((model, data, f"{source}.json: {settings}"), []).append(run)
    best: dict[tuple[str, str, str], Evidence] = {}
    for (model, data, source), results in runs.items():
        one = summarise(model, data, source, results)
        key = (model, data, one.score)
        if key not in best or better(one.value, best[key].value, one.score):
            best[key] = one
    return list(best.values())


def better(value: float, other: float, score: str) -> bool:
    """Return whether one value of a score is better than another."""
    return value < other if score in ("mase", "mse") else value > other


def tested(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a run's score, value, epochs, minutes, and its change and speedup by int8; None if it was not tested."""
    if "float32" in result:  # from benchmarks/quantization.py
        before, after = result["float32"], result["static"]
        return {
            "score": "acc",
            "value": before["accuracy"],
            "epochs": 4,
            "minutes": None,
            "int8_change": after["accuracy"] - before["accuracy"],
            "int8_speedup": after["images_per_second"] / before["images_per_second"],
        }
    metrics = part(result, "metrics") or result
    score = next((name for name in SCORES if f"test/{name}" in metrics), None)
    if score is None:
        return None
    # only for the score that selects checkpoints; int8 speeds in tasks.json are ignored: the machine was busy
    change = result["int8"] - metrics[f"test/{score}"] if result.get("score") == score else None
    minutes = result.get("minutes") or (metrics["train_seconds"] / 60 if "train_seconds" in metrics else None)
    value, epochs = metrics[f"test/{score}"], metrics.get("epochs")
    return {"score": score, "value": value, "epochs": epochs, "minutes": minutes} | {
        "int8_change": change,
        "int8_speedup": None,
    }


def summarise(model: str, data: str, source: str, results: Sequence[Mapping[str, Any]]) -> Evidence:
    """Compute the medians over the seeds."""

    def median(name: str) -> float | None:
        values = [result[name] for result in results if result[name] is not None]
        return statistics.median(values) if values else None

    epochs = median("epochs")
    return Evidence(
        model=model,
        data=data,
        shape=results[0]["shape"],
        score=results[0]["score"],
        value=statistics.median(result["value"] for result in results),
        seeds=len(results),
        epochs=None if epochs is None else int(epochs),
        minutes=median("minutes"),
        int8_change=median("int8_change"),
        int8_speedup=median("int8_speedup"),
        source=source,
    )


def shape_of(shape: Sequence[int], words: Mapping[str, str]) -> tuple[int, ...]:
    """Return the input shape of a run: the model's own, unless the command overrides it."""
    if len(shape) != 3:
        return tuple(shape)
    size = int(words.get("data.image_size", shape[1]))
    return int(words.get("data.channels", shape[0])), size, size


def chosen(group: str, words: Mapping[str, str]) -> str | None:
    """Return the option of a config group that a command selects, directly or through its experiment or model."""
    if group in words:
        return words[group]
    files = [CONFIGS / "experiment" / f"{words['experiment']}.yaml"] if "experiment" in words else []
    files += [CONFIGS / "model" / f"{model}.yaml"] if group == "data" and (model := chosen("model", words)) else []
    return next((choice for file in files for choice in choices(group, file)), None)


def choices(group: str, file: Path) -> Iterator[str]:
    """Yield the options of a group that a configuration and the ones it includes select, in order of precedence."""
    if not file.is_file():
        return
    for entry in reversed(yaml.safe_load(file.read_text())["defaults"]):
        if isinstance(entry, str):
            yield from choices(group, file.parent / f"{entry}.yaml") if entry != "_self_" else ()
        for key, choice in entry.items() if isinstance(entry, dict) else ():
            if key.removeprefix("override ").removeprefix("/").partition("@")[0] == group:
                yield choice


@dataclass(frozen=True)
class Gains:
    """Gains of techniques over the plain recipe, in points of validation accuracy on Fashion-MNIST, for one seed."""

    model: str
    epochs: int
    points: Mapping[str, float]  # by the arguments that enable the technique


def recipe_gains(models: Mapping[str, Mapping[str, Any]], folder: Path = RESULTS) -> dict[str, Gains]:
    """Return the gains of techniques by class of net."""
    runs = {key: one["val/acc"] for key, one in read_json(folder / "recipes.json").items() if "test=false" in key}
    gains: dict[str, Gains] = {}
    for plain, before in runs.items():
        differences = {key: 100 * (value - before) for key, value in runs.items() if key.startswith(f"{plain} ")}
        words = dict(word.partition("=")[::2] for word in plain.split())
        if differences and words["model"] in models:
            points = {key.removeprefix(f"{plain} "): value for key, value in differences.items()}
            net = models[words["model"]]["net"]
            gains[net] = Gains(words["model"], int(words["trainer.max_epochs"]), points)
    return gains
