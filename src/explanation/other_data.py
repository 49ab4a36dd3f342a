"""Other data in the format of a run's data, for out-of-distribution detection."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from src.config.composing import compose, parse
from src.config.paths import CONFIGS
from src.predictor import input_shape
from src.system.wording import suggest

if TYPE_CHECKING:  # its import takes seconds
    from torch import Tensor

FITTED = ("channels", "image_size", "batch_size")  # taken from the run, where both have them


def check_name(name: str | None) -> None:
    """Check that data with a name exist.

    Raises:
        ValueError: they do not.
    """
    known = sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml"))
    if name is not None and name not in known:
        raise ValueError(f"There is no ood={name} in configs/data/.{suggest(str(name), known)}")


def other_datamodule(name: str, cfg: DictConfig, card: Mapping[str, Any]) -> Any:
    """Build the DataModule with a name, with its data read and in the size of the run's data.

    Args:
        name: name of a file in configs/data/.
        cfg: the configuration, with the run's `data`.
        card: description of the run's data.

    Raises:
        ValueError: the data have another shape than the run's.
    """
    from src.run.instantiate import build_datamodule  # imports torch

    composed = compose("train", parse([f"data={name}"]))
    OmegaConf.set_struct(composed, False)
    composed.paths.data_dir = cfg.paths.data_dir
    composed.seed = cfg.seed
    data: Any = OmegaConf.to_container(composed.data, resolve=True)
    data |= {key: cfg.data[key] for key in FITTED if key in data and cfg.data.get(key) is not None}
    other = build_datamodule(OmegaConf.create({"data": data}))
    theirs = other.input_card()
    if (theirs.get("input"), input_shape(theirs)) != (card.get("input"), input_shape(card)):
        raise ValueError(
            f"ood={name} has inputs of shape {input_shape(theirs)}, but the net takes {input_shape(card)}: choose "
            "other data."
        )
    return other


def renormalised(inputs: "Tensor", theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> "Tensor":
    """Convert inputs (B, …) from the normalisation of one card to that of another; tokens are unchanged."""
    if "mean" not in theirs or "mean" not in ours:
        return inputs
    return normalised(denormalised(inputs, theirs), ours)


def denormalised(inputs: "Tensor", card: Mapping[str, Any]) -> "Tensor":
    """Undo the normalisation of images (B, C, H, W) or series (B, T, F) described by a card."""
    mean, std = moments(card, inputs.ndim)
    return inputs * std + mean


def normalised(values: "Tensor", card: Mapping[str, Any]) -> "Tensor":
    """Normalise images (B, C, H, W) or series (B, T, F) as described by a card."""
    mean, std = moments(card, values.ndim)
    return (values - mean) / std


def moments(card: Mapping[str, Any], ndim: int) -> "tuple[Tensor, Tensor]":
    """Return means and standard deviations of channels (C, 1, 1) or features (F,)."""
    import torch

    mean, std = (torch.tensor(card[key]).view((-1, 1, 1) if ndim == 4 else (-1,)) for key in ("mean", "std"))
    return mean, std
