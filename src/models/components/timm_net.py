"""Any architecture of timm (Wightman, github.com/huggingface/pytorch-image-models), for comparison."""

from typing import Any

from torch import nn


def timm_net(*, in_channels: int, image_size: int, num_classes: int, model_name: str, **options: Any) -> nn.Module:
    """Build a net of timm for images (B, in_channels, H, W), with random weights.

    Args:
        in_channels: of the image.
        image_size: of the image; told to those of timm's nets that are built for one size.
        num_classes: size of the output.
        model_name: timm's name, such as `resnet18`.
        options: handed on to `timm.create_model`.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: timm has no model of that name.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "model=timm needs a package that is not installed: pip install -e '.[timm]'"
        ) from error
    if model_name not in timm.list_models():
        near = timm.list_models(f"*{model_name[:6]}*")[:5]
        raise ValueError(f"timm has no model_name={model_name}; near it: {', '.join(near) or 'none'}.")
    published = timm.get_pretrained_cfg(model_name)
    if published is not None and published.fixed_input_size:
        options.setdefault("img_size", image_size)
    return timm.create_model(model_name, in_chans=in_channels, num_classes=num_classes, **options)
