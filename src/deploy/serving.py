"""Use a trained run as a predictor, without an export."""

from pathlib import Path

from omegaconf import DictConfig

from src.deploy.inference_net import torch_runner
from src.models.task import Task, with_temperatures
from src.predictor import Predictor
from src.run.calibration import read_temperatures
from src.run.checkpoints import recorded_card
from src.run.instantiate import build_datamodule, build_trained_model


def predictor_of_run(cfg: DictConfig, ckpt_path: Path) -> Predictor:
    """Return a predictor for a checkpoint; its data are read only if the checkpoint does not describe them.

    Raises:
        ValueError: the checkpoint's description of inputs and outputs is damaged; or see `read_temperatures`.
    """
    return predictor_of_task(build_trained_model(cfg, ckpt_path), cfg, ckpt_path, cfg.calibrated)


def predictor_of_task(task: Task, cfg: DictConfig, ckpt_path: Path, calibrated: bool) -> Predictor:
    """Return a predictor for a task that was built from a checkpoint; see `predictor_of_run`."""
    card = recorded_card(ckpt_path)
    if card is None:
        card = task.card(build_datamodule(cfg).input_card())
    if calibrated:
        card = {**card, "outputs": with_temperatures(card["outputs"], read_temperatures(ckpt_path))}
    return Predictor(card, torch_runner(task.net, list(card["outputs"])))
