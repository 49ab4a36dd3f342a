"""A trained run as a predictor, without an export."""

from pathlib import Path

from omegaconf import DictConfig

from src.deploy.inference_net import torch_runner
from src.predictor import Predictor, upgrade
from src.run.checkpoints import INPUT_KEY, read_checkpoint
from src.run.instantiate import ready_data, restore


def predictor_of_run(cfg: DictConfig, ckpt_path: Path) -> Predictor:
    """Predict with the net of a checkpoint; its data are needed only where the checkpoint does not describe them."""
    task, card = restore(cfg, ckpt_path), read_checkpoint(ckpt_path).get(INPUT_KEY)
    card = task.card(ready_data(cfg).input_card()) if card is None else upgrade(card)
    return Predictor(card, torch_runner(task.net, list(card["outputs"])))
