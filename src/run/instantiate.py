"""Build the objects of a run from its configuration."""

import logging
import os
import random
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from lightning.pytorch.accelerators import AcceleratorRegistry, CPUAccelerator, CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from src.config.argument_types import check_arguments
from src.config.objectives import objectives
from src.config.stored_config import to_stored
from src.config.targets import check_targets
from src.run.checkpoint_io import SafeCheckpointIO
from src.run.checkpoint_tensors import CheckedOptimizers
from src.run.checkpoints import check_fits
from src.run.known_metrics import KnownMetrics
from src.run.lean_steps import NoProfiler, skip_noop_work
from src.run.outputs import check_outputs, set_aside_csv_logs
from src.run.published_weights import without_weights
from src.run.record import RunRecord
from src.run.reuse import reusable
from src.run.run import Run
from src.run.sync_batchnorm import SyncBatchNorm
from src.run.used_weights import UsedWeights
from src.system.cpu import warn_if_emulated
from src.system.ranks import broadcast_from_rank_zero, in_torchrun, is_rank_zero
from src.system.signals import listener
from src.system.wording import suggest

EXTRAS = ("wandb", "mlflow")  # loggers that are extras of the same name


def build(cfg: DictConfig, ckpt_path: Path | None, own_callbacks: Sequence[L.Callback] = ()) -> dict[str, Any]:
    """Seed the run, build its objects, and check that a checkpoint to be loaded fits the model.

    Args:
        cfg: the configuration.
        ckpt_path: path of the checkpoint to be loaded.
        own_callbacks: callbacks that the program adds to those of the configuration.

    Returns:
        `cfg`, `datamodule`, `model`, `callbacks`, `logger`, `trainer`, and `record`, the callback that keeps the run's
        record.
    """
    silence_lightning()
    check_device(cfg.trainer.get("accelerator") or "auto")
    cfg.seed = L.seed_everything(choose_seed(cfg.seed), workers=True, verbose=False)
    datamodule: L.LightningDataModule = instantiate(cfg.data)
    model: L.LightningModule = instantiate(cfg.model)
    step = check_fits(ckpt_path, model).get("global_step", 0) if ckpt_path is not None else 0
    callbacks = [*instantiate_all(cfg.get("callbacks"), "callbacks"), *own_callbacks]
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    recorded = ("model", "recipe", "data", "experiment", "trainer", "debug")
    groups = {group: choices[group] for group in recorded if choices.get(group)}
    stored = to_stored(cfg)
    record = RunRecord(
        cfg.paths.output_dir,
        stored,
        {"choices": groups, "seed": cfg.seed, "tags": stored["tags"]},
        resumed=bool(cfg.get("resume")),
        compared_with=cfg.get("resume") or cfg.get("reproduce"),
    )
    loggers = instantiate_all(resume_loggers(cfg, step) if cfg.get("resume") else cfg.get("logger"), "logger")
    if not loggers or cfg.trainer.get("fast_dev_run"):  # LearningRateMonitor raises without a logger
        callbacks = [one for one in callbacks if not isinstance(one, LearningRateMonitor)]
    check_outputs(cfg, loggers)
    set_aside_csv_logs(loggers)
    # if a group is left out on purpose, Lightning must not add its default instead
    kinds = {"enable_checkpointing": Checkpoint, "enable_progress_bar": ProgressBar}
    options: dict[str, Any] = {
        key: False for key, kind in kinds.items() if not any(isinstance(one, kind) for one in callbacks)
    }
    plugins = [SafeCheckpointIO(), *([SyncBatchNorm()] if cfg.trainer.get("sync_batchnorm") else [])]
    if not cfg.trainer.get("profiler"):
        options["profiler"] = NoProfiler()
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        callbacks=[CheckedOptimizers(), KnownMetrics(requested_metrics(cfg)), UsedWeights(), *callbacks, record],
        logger=loggers or False,
        plugins=plugins,
        **options,
    )
    skip_noop_work(trainer, model, datamodule)
    if listener.pid is not None and isinstance(launcher := trainer.strategy.launcher, _SubprocessScriptLauncher):
        listener.before_exit.append(lambda: launcher.kill(signal.SIGKILL))
    if trainer.precision == "bf16-mixed" and trainer.strategy.root_device.type == "cpu":
        warn_if_emulated()
    return {
        "cfg": cfg,
        "datamodule": datamodule,
        "model": model,
        "callbacks": callbacks,
        "logger": loggers,
        "trainer": trainer,
        "record": record,
    }


def build_trained_model(cfg: DictConfig, ckpt_path: Path) -> Any:
    """Build the model of a run with the weights of a checkpoint, in evaluation mode."""
    silence_lightning()
    model: L.LightningModule = instantiate(cfg.model)
    model.load_state_dict(check_fits(ckpt_path, model)["state_dict"])
    return model.eval()


def load_model(ckpt_path: str | Path, allowed_targets: Sequence[str] = ()) -> Any:
    """Rebuild a model with its weights from a checkpoint file of this project alone, in evaluation mode.

    Args:
        ckpt_path: path of the checkpoint.
        allowed_targets: packages whose classes it may use besides this project's, for code that you trust.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or names a class that is not allowed.
    """
    run = Run.open(ckpt_path, "ckpt_path")
    config = reusable(run.config())
    check_targets(config, allowed_targets)
    return build_trained_model(OmegaConf.create(config), run.best_checkpoint())


def check_device(accelerator: str) -> None:
    """Check that there is a device to train on.

    Raises:
        ValueError: this machine has no such device, or the accelerator is unknown.
    """
    kinds = {name: [AcceleratorRegistry[name]["accelerator"]] for name in AcceleratorRegistry.available_accelerators()}
    kinds |= {"auto": [CPUAccelerator], "gpu": [CUDAAccelerator, MPSAccelerator]}
    if accelerator not in kinds:
        raise ValueError(f"There is no trainer.accelerator={accelerator}.{suggest(accelerator, sorted(kinds))}")
    if not any(kind.is_available() for kind in kinds[accelerator]):
        raise ValueError(
            f"trainer.accelerator={accelerator}: there is no such device on this machine; use trainer=cpu."
        )


def build_datamodule(cfg: DictConfig) -> Any:
    """Build the DataModule of a run and read its data."""
    datamodule = instantiate(cfg.data)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def requested_metrics(cfg: DictConfig) -> dict[str, list[str]]:
    """Return the metrics that a configuration names, under the keys that name them."""
    monitors = {
        f"callbacks.{key}.monitor": one.get("monitor") for key, one in (cfg.get("callbacks") or {}).items() if one
    }
    monitors["model.scheduler.monitor"] = OmegaConf.select(cfg, "model.scheduler.monitor")
    named = {key: [monitor] for key, monitor in monitors.items() if monitor}
    return {**named, "optimized_metric": objectives(cfg)}


def resume_loggers(cfg: DictConfig, step: int) -> DictConfig | None:
    """Return the loggers of a resumed run: TensorBoard forgets what was logged after the checkpoint's step."""
    if not cfg.get("logger"):
        return None
    group: Any = OmegaConf.create(OmegaConf.to_container(cfg.logger, resolve=True))
    for logger in group.values():
        if logger and str(logger.get("_target_")).endswith("TensorBoardLogger"):
            logger.purge_step = step
    return group


def choose_seed(seed: int | None) -> int:
    """Return the given seed, or draw one; all processes of a DDP run use that of rank zero."""
    if seed is not None:
        return seed
    if not in_torchrun() and not is_rank_zero() and "PL_GLOBAL_SEED" in os.environ:  # Lightning started this process
        return int(os.environ["PL_GLOBAL_SEED"])
    return int(broadcast_from_rank_zero(lambda: str(random.SystemRandom().randrange(2**31))))


def silence_lightning() -> None:
    """Show only Lightning's warnings, and none about unused devices, products or deprecated torch calls."""
    logging.getLogger("lightning").handlers.clear()  # Hydra's handlers already write its messages
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # the report of a requested profiler
    warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")
    # only rank zero measures int8 models
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self.log\('(fp32|int8)/")
    warnings.filterwarnings("ignore", message="The dirpath has changed")  # when a checkpoint is tested elsewhere
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks")  # tests need none
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # when it is resumed


def instantiate(cfg: DictConfig, **options: Any) -> Any:
    """Build the object that `_target_` names, with plain lists and dicts instead of configuration nodes.

    A net is built without its file of published weights, which `src/train.py` alone loads.

    Raises:
        ValueError: a value is of the wrong type.
    """
    check_arguments(cfg)
    try:
        return hydra.utils.instantiate(without_weights(cfg), _convert_="all", **options)
    except InstantiationException as error:
        if isinstance(error.__cause__, MisconfigurationException):
            # a mistake of the user: a ValueError is printed as one sentence
            raise InstantiationException(str(error)) from ValueError(str(error.__cause__))
        raise


def instantiate_all(group: DictConfig | None, name: str) -> list[Any]:
    """Build every object of a group, such as `callbacks` or `logger`, that is not switched off with null.

    Raises:
        ValueError: an entry has no `_target_`.
        ModuleNotFoundError: an entry needs a package that is not installed.
    """
    objects = []
    for node_key, cfg in (group or {}).items():
        if cfg is None:
            continue
        key = str(node_key)
        if "_target_" not in cfg:
            raise ValueError(f"{name}.{key} has no _target_: name the class, or switch it off with {name}.{key}=null.")
        try:
            objects.append(instantiate(cfg))
        except InstantiationException as error:
            if isinstance(error.__cause__, ModuleNotFoundError) and key in EXTRAS:
                raise ModuleNotFoundError(
                    f"{name}={key} needs a package that is not installed: pip install -e '.[{key}]'"
                ) from error
            raise
    return objects
