"""Start training from published weights: `model.net.weights=<file>`, the state dict of the same net elsewhere."""

import copy
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn

from src.config.argument_types import annotations
from src.models.published import describe_tensor, load_published, reorder_like
from src.run.checkpoint_tensors import entry_fault
from src.system.json_files import read_json
from src.system.ranks import is_rank_zero
from src.system.safe_files import printable
from src.system.wording import first_line

log = logging.getLogger(__name__)

KEY = "weights"  # a net's key in the configuration, no argument of its constructor
SAFETENSORS = ".safetensors"
HUB_CARD = "config.json"  # next to the weights of timm's nets on the Hugging Face hub; names the net


def weights_file(net: DictConfig | None) -> Path | None:
    """Return the file of published weights that a net starts from, if any.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not net or not net.get(KEY) or takes_weights(net):
        return None
    path = Path(str(net[KEY]))
    if not path.is_file():
        raise FileNotFoundError(f"model.net.weights={path} is not a file.")
    return path


def without_weights(cfg: DictConfig) -> DictConfig:
    """Return a configuration, of a net or with one, whose net does not name such a file: a copy if it does."""
    is_net = cfg._key() == "net"
    net = cfg if is_net else cfg.get("net")
    if not isinstance(net, DictConfig) or KEY not in net or takes_weights(net):
        return cfg
    cfg = copy.deepcopy(cfg)  # keeps its parent, to resolve what refers to other blocks
    net = cfg if is_net else cfg.net
    with open_dict(net):
        net.pop(KEY)
    return cfg


def takes_weights(net: DictConfig) -> bool:
    """Return whether the constructor of a net has an argument of that name, as those of torchvision do."""
    return KEY in annotations(net.get("_target_"))


def load_weights(net: nn.Module, path: Path) -> None:
    """Load published weights into the same net, and log which tensors are not loaded.

    Args:
        net: the net to load the weights into.
        path: the file of a state dict, written by `torch.save` or safetensors.

    Raises:
        ModuleNotFoundError: safetensors is not installed.
        ValueError: the file holds anything else, or the weights of another net.
    """
    weights = read_weights(path)
    if path.suffix == SAFETENSORS and reorder_like(net.state_dict(), weights) is None:
        weights = in_order(weights, path)
    try:
        new, unused = load_published(net, weights)
    except ValueError as error:
        raise ValueError(
            f"model.net.weights={path}: {error} Set model.net.… and data.channels to the sizes they are published for."
        ) from error
    groups = {"new in the net": new, "unused from the file": unused}
    rest = [f"; {where}: {', '.join(map(describe_tensor, tensors))}" for where, tensors in groups.items() if tensors]
    if is_rank_zero():
        what = "all tensors but those of the last layer" if rest else "all tensors"
        log.info("model.net.weights=%s: loaded %s%s", path, what, printable("".join(rest)))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running code from the file.

    Raises:
        ModuleNotFoundError: safetensors is not installed.
        ValueError: the file is damaged, or holds anything but a state dict.
    """
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            weights: Any = load_file(path)
        else:
            weights = torch.load(path, "cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"model.net.weights={path} needs a package that is not installed: pip install -e '.[timm]'"
        ) from error
    except Exception as error:  # a damaged file may raise errors of any kind
        raise ValueError(
            f"model.net.weights={path} cannot be read: it is damaged, or holds code or objects besides tensors "
            f"({first_line(error)})."
        ) from error
    entries = weights.items() if isinstance(weights, dict) else []
    faults = [f"{printable(str(name))} {fault}" for name, value in entries if (fault := entry_fault(name, value))]
    if not isinstance(weights, dict) or faults:
        raise ValueError(
            f"model.net.weights={path} is not a state dict, as net.state_dict() returns it: "
            f"{faults[0] if faults else f'it is of the type {type(weights).__name__}'}. For a checkpoint of this "
            "project, use init_from=."
        )
    return weights


def in_order(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Reorder tensors, which safetensors sorts by name, as in the timm net that the `HUB_CARD` next to the file names.

    Raises:
        ValueError: it names no net of timm with these tensors.
    """
    name = read_json(path.with_name(HUB_CARD)).get("architecture")
    with suppress(ModuleNotFoundError):
        import timm

        known = timm.create_model(name).state_dict() if name in timm.list_models() else {}
        if (ordered := reorder_like(known, weights)) is not None:
            return ordered
    raise ValueError(
        f"model.net.weights={path} lists its tensors by name, as safetensors does, and no {HUB_CARD} next to it names "
        "the net of timm that has them in order: use the same weights in a .bin or .pth file."
    )
