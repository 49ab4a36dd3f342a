"""Reuse the configuration of a run, for `src/eval.py`, `src/export.py` and `src/predict.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from src.config.paths import ROOT
from src.config.quoting import path_of
from src.config.stored_config import leaves
from src.config.targets import check_targets
from src.run.run import Run
from src.run.scores import LEGACY_SCORE
from src.system.links import symlink_error

# trainer settings that affect a run's metrics, and must be the same when the run is tested again
TRAINER = {"precision": (str, int), "limit_test_batches": (int, float)}
MAX_INTEGER = 1_000_000  # accepted in the configuration of a net or its data, except for seeds
LEGACY_TASKS = ("src.models.classifier.Classifier", "src.models.multihead_classifier.MultiheadClassifier")
# the source of a net's initial weights, which those of the checkpoint replace
INITIAL_WEIGHTS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights")


def chosen_run(cfg: Any, alternative: str = "") -> Run:
    """Return the run given by `ckpt_path` or `run_dir`.

    Args:
        cfg: the configuration with these keys.
        alternative: another way to choose a model, appended to the error message.

    Raises:
        ValueError: neither is given, or both.
        FileNotFoundError: there is no such file or folder.
    """
    chosen = [key for key in ("run_dir", "ckpt_path") if cfg.get(key)]
    if len(chosen) != 1:
        raise ValueError(f"Choose a run by either run_dir=logs/train/runs/… or ckpt_path=….ckpt{alternative}")
    return Run.open(cfg[chosen[0]], chosen[0])


def results_folder(cfg: Any, ckpt_path: Path, name: str) -> Path:
    """Return where a program writes: to `cfg.folder` or, without one, to a folder in the run of a checkpoint.

    Raises:
        ValueError: the folder is a symbolic link; a run from elsewhere must not decide where files are written.
    """
    if cfg.folder:
        return Path(cfg.folder)
    folder = ckpt_path.parent.parent / name
    if folder.is_symlink():
        raise symlink_error(folder)
    return folder


def load_run_config(arguments: list[str], groups: Sequence[str], alternative: str = "") -> None:
    """Register the selected run's configuration in the ConfigStore as `run`.

    Args:
        arguments: the command line. The node is empty for --help, or if exported models are used.
        groups: config groups that the command line may replace, as data=fashion_mnist does.
        alternative: see `chosen_run`.

    Raises:
        ValueError: a model is chosen, or no run.
        FileNotFoundError: there is no such run.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument and not argument.startswith("-"))
    run_config: dict[str, Any] = {}
    if "model" in given:  # only single values of the run's model may be set
        raise ValueError(
            f"model={given['model']} cannot be chosen, because the net comes from the run: omit it and override "
            "single values by key, such as model.compile=true."
        )
    asks_for_help = any(flag in arguments for flag in ("--help", "-h", "--hydra-help"))
    if not asks_for_help and given.get("exported", "null") in ("null", ""):
        paths = {key: path_of(given[key]) for key in ("run_dir", "ckpt_path") if key in given}
        run_config = reusable_config(chosen_run(paths, alternative))
        for group in set(given) & set(run_config) & set(groups):
            del run_config[group]
        if "trainer" not in groups:
            run_config.pop("trainer", None)
    ConfigStore.instance().store(name="run", node=run_config)


def reusable_config(run: Run) -> dict[str, Any]:
    """Return the parts of a run's configuration that are reused; see `reusable`.

    Raises:
        FileNotFoundError: it has no checkpoint.
        ValueError: parts are missing or damaged.
    """
    run.check_has_checkpoint()  # first: without one, the configuration may be unresolved
    return reusable(run.config())


def reusable(config: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a run's configuration that are reused: model, data, seed and some trainer settings.

    Raises:
        ValueError: they are missing or damaged.
    """
    for key in ("model", "data"):
        if not isinstance(config.get(key), dict):
            raise ValueError(
                f"The run's configuration is damaged: {key}={str(config.get(key))[:200]} is not a mapping."
            )
        for name, value in leaves(config[key], key):
            if type(value) is int and abs(value) > MAX_INTEGER and not name.endswith("seed"):
                raise ValueError(f"The run's configuration is damaged: {name[:200]}={value} exceeds {MAX_INTEGER:,}.")
    model, trainer = dict(config["model"]), config.get("trainer")
    if model.get("_target_") in LEGACY_TASKS:
        model = {**LEGACY_SCORE, **model}
    if isinstance(model.get("net"), dict):
        model["net"] = {key: value for key, value in model["net"].items() if key not in INITIAL_WEIGHTS}
    data = dict(config["data"])
    if "data_dir" in data and data["data_dir"] != str(ROOT / "data"):
        data["download"] = False  # a file must not choose where something is written
    reused: dict[str, Any] = {"model": model, "data": data}
    if isinstance(config.get("seed"), int):
        reused["seed"] = config["seed"]
    if isinstance(trainer, dict):
        reused["trainer"] = {key: trainer[key] for key, types in TRAINER.items() if type(trainer.get(key)) in types}
    return reused


def check_run_config(cfg: DictConfig) -> None:
    """Check the classes in a run's configuration; `allowed_targets` of the command line are trusted.

    Raises:
        ValueError: a class is not allowed.
    """
    config = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "data")}
    check_targets(config, cfg.allowed_targets)
