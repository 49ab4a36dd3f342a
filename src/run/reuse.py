"""The configuration of a run that is used again: what `src/eval.py`, `src/export.py` and `src/predict.py` share."""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from src.config.paths import ROOT
from src.config.quoting import path_of
from src.config.stored_config import leaves
from src.config.targets import check_targets
from src.run.run import Run
from src.run.scores import FORMER_SCORE

# trainer settings that affect a run's metrics: testing the run again must use the same ones
TRAINER = {"precision": (str, int), "limit_test_batches": (int, float)}
MOST = 1_000_000  # largest integer accepted in a net's or its data's configuration, except seeds
FORMER_TASKS = ("src.models.classifier.Classifier", "src.models.multihead_classifier.MultiheadClassifier")
# where a net's first weights came from; those of the checkpoint take their place
ORIGIN = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights")


def chosen_run(cfg: Any, alternative: str = "") -> Run:
    """The run that `ckpt_path` or `run_dir` names.

    Args:
        cfg: has these keys.
        alternative: to either of them, for the error that asks for one.

    Raises:
        ValueError: neither is given, or both.
        FileNotFoundError: there is no such file or folder.
    """
    chosen = [key for key in ("run_dir", "ckpt_path") if cfg.get(key)]
    if len(chosen) != 1:
        raise ValueError(f"Say which run is meant: either run_dir=logs/train/runs/… or ckpt_path=….ckpt{alternative}")
    return Run.open(cfg[chosen[0]], chosen[0])


def load_run_config(arguments: list[str], groups: Sequence[str], alternative: str = "") -> None:
    """Register the selected run's configuration in the ConfigStore as `run`.

    Args:
        arguments: of the command line. Without a run, for help or where none is needed, the node is empty.
        groups: that the command line may choose anew: data=fashion_mnist then replaces the run's.
        alternative: see `chosen_run`.

    Raises:
        ValueError: a net is chosen, or no run.
        FileNotFoundError: there is no such run.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument and not argument.startswith("-"))
    run_config: dict[str, Any] = {}
    if "model" in given:  # a block of the run's, of which single values may be set
        raise ValueError(
            f"model={given['model']} cannot be chosen, because the net comes from the run: omit it and override "
            "single values by key, such as model.compile=true."
        )
    if not any(flag in arguments for flag in ("--help", "-h", "--hydra-help")) and given.get("exported", "null") in (
        "null",
        "",
    ):
        paths = {key: path_of(given[key]) for key in ("run_dir", "ckpt_path") if key in given}
        run_config = reusable(chosen_run(paths, alternative).config())
        for group in set(given) & set(run_config) & set(groups):
            del run_config[group]
        if "trainer" not in groups:
            run_config.pop("trainer", None)
    ConfigStore.instance().store(name="run", node=run_config)


def reusable(config: dict[str, Any]) -> dict[str, Any]:
    """What is taken from a run's configuration: its net, task and data; all else is this checkout's own.

    Raises:
        ValueError: it says nothing of them, or something that they cannot be.
    """
    for key in ("model", "data"):
        if not isinstance(config.get(key), dict):
            raise ValueError(
                f"The run's configuration is damaged: {key}={str(config.get(key))[:200]} is no block of it."
            )
        for name, value in leaves(config[key], key):
            if type(value) is int and abs(value) > MOST and not name.endswith("seed"):
                raise ValueError(f"The run's configuration is damaged: {name[:200]}={value} is more than any net has.")
    model, trainer = dict(config["model"]), config.get("trainer")
    if model.get("_target_") in FORMER_TASKS:
        model = {**FORMER_SCORE, **model}
    if isinstance(model.get("net"), dict):
        model["net"] = {key: value for key, value in model["net"].items() if key not in ORIGIN}
    data = dict(config["data"])
    if "data_dir" in data and data["data_dir"] != str(ROOT / "data"):
        data["download"] = False  # a file has no say in where something is written
    found: dict[str, Any] = {"model": model, "data": data}
    if isinstance(config.get("seed"), int):
        found["seed"] = config["seed"]
    if isinstance(trainer, dict):
        found["trainer"] = {key: trainer[key] for key, kinds in TRAINER.items() if type(trainer.get(key)) in kinds}
    return found


def check_run_config(cfg: DictConfig) -> None:
    """Check what a program builds of a run's configuration; `allowed_targets` of the command line is trusted.

    Raises:
        ValueError: names what is refused.
    """
    config = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "data")}
    check_targets(config, cfg.allowed_targets)
