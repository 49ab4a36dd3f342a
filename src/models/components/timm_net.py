"""Any architecture of timm (Wightman, github.com/huggingface/pytorch-image-models), for comparison."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from torch import nn

HUB_FILE = "model.safetensors"  # the weights of a net on the Hugging Face hub
TIMEOUT = 5.0  # seconds to wait for the hub


def timm_net(
    *,
    in_channels: int,
    image_size: int,
    num_classes: int,
    model_name: str,
    pretrained: bool = False,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a net of timm for images (B, in_channels, H, W).

    Args:
        in_channels: channels of the image.
        image_size: height and width of the image; passed to timm's nets that are built for one size.
        num_classes: size of the output.
        model_name: timm's name, such as `resnet18`.
        pretrained: start from published weights, except for the last layer.
        pretrained_cfg_overlay: overrides of timm's description of these weights, such as `file`, a local copy.
        options: passed to `timm.create_model`.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: timm has no model of that name.
        FileNotFoundError: the published weights are not on this machine and cannot be downloaded.
        ValueError: their file is damaged, or holds the weights of another model.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "model=timm needs a package that is not installed: pip install -e '.[timm]'"
        ) from error
    if model_name.partition(".")[0] not in timm.list_models():  # after a dot: which of several published weights
        similar = timm.list_models(f"*{model_name[:6]}*")[:5]
        raise ValueError(f"timm has no model_name={model_name}; similar names: {', '.join(similar) or 'none'}.")
    published = timm.get_pretrained_cfg(model_name)
    if published is not None and published.fixed_input_size:
        options.setdefault("img_size", image_size)
    overlay = dict(pretrained_cfg_overlay or {})
    if pretrained and published is not None and published.hf_hub_id and not published.custom_load:
        overlay["file"] = weights_file(published.hf_hub_id, overlay.get("file"), options.get("cache_dir"))
    try:
        return timm.create_model(
            model_name,
            pretrained,
            pretrained_cfg_overlay=overlay,
            in_chans=in_channels,
            num_classes=num_classes,
            **options,
        )
    except TypeError:  # an option that the model does not have
        raise
    except Exception as error:  # a damaged file may raise errors of any kind
        if not pretrained or not overlay.get("file"):
            raise
        reason = " ".join(" ".join(str(error).splitlines()[:2]).split())  # the message has a line for each tensor
        raise ValueError(
            f"pretrained_cfg_overlay.file={overlay['file']} does not hold the weights of {model_name}: {reason}"
        ) from error


def weights_file(repository: str, given: str | None, cache_dir: str | None) -> str | None:
    """Return the local file with published weights; None if they must be downloaded and the hub can be reached.

    The hub's own client contacts the hub even for cached files, and retries for a minute if there is no network.

    Args:
        repository: the weights' name on the Hugging Face hub.
        given: the file that the user names, if any.
        cache_dir: folder of the hub's client; None: its default.

    Raises:
        FileNotFoundError: the weights are not on this machine and cannot be downloaded.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"pretrained_cfg_overlay.file={given} is not a file.")
        return given
    cached = try_to_load_from_cache(repository, HUB_FILE, cache_dir=cache_dir)
    if isinstance(cached, str):
        return cached
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=TIMEOUT).close()
    except urllib.error.HTTPError:  # the hub has answered
        pass
    except OSError as error:
        raise FileNotFoundError(
            f"The weights of {repository} are not on this machine, and {constants.ENDPOINT} cannot be reached "
            f"({error}): give a copy of their file, model.net.pretrained_cfg_overlay.file={HUB_FILE}, or start from "
            "random weights, model.net.pretrained=false."
        ) from error
    return None
