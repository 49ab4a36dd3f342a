"""Attribution maps for the predicted class: Grad-CAM, or attention rollout.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) weights the channels of the last feature map by the mean gradient of
the class's logit, sums them, and keeps the positive part. Attention rollout (Abnar & Zuidema 2020, arXiv 2005.00928)
multiplies the attention of all blocks, averaged over heads and with the identity for the residual connections.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from src.explanation.section import Gallery, LeftOut, Section, gallery
from src.explanation.subject import Results, Subject, label_of
from src.models.classifier import class_name
from src.models.segmentation import in_rgb

SHOWN = 10  # correct images, and as many wrong ones
HEAT = (1.0, 0.45, 0.0)
CONVOLUTIONS = (nn.Conv2d,)


class Trace(TorchFunctionMode):
    """Record, within the context, the attention of a net and the last feature map after it.

    Attributes:
        attentions: attention (B, N, N), averaged over heads, of each call of torch's scaled dot-product attention.
        features: the last output (B, C, h, w) of a module with more than one position, after all attention; None if
            there is none.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.attentions = net, list[Tensor]()
        self.features: Tensor | None = None
        self._hooks: list[Any] = []

    def __enter__(self) -> "Trace":
        modules = [one for one in self.net.modules() if one is not self.net]
        self._hooks = [module.register_forward_hook(self._keep) for module in modules]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record attention, and call the function."""
        if func is F.scaled_dot_product_attention:
            self.attentions.append(attention_weights(*args, **(kwargs or {})).mean(dim=1))
            self.features = None
        return func(*args, **(kwargs or {}))

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Keep a feature map, and pass on a copy, which may be modified in place."""
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            self.features = output
            return output.clone()
        return output


def attention_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *_: Any,
    scale: float | None = None,
    **__: Any,
) -> Tensor:
    """Return the weights (B, heads, N, N) of torch's scaled dot-product attention."""
    weights = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        weights = weights.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else weights + attn_mask
    return weights.softmax(dim=-1)


def grad_cam(features: Tensor, class_logits: Tensor) -> Tensor:
    """Return the Grad-CAM maps (B, h, w) of feature maps (B, C, h, w) for one class logit (B,) of each sample."""
    (gradients,) = torch.autograd.grad(class_logits.sum(), features)
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    return (weights * features).sum(dim=1).relu().detach()


def rollout(attentions: Sequence[Tensor]) -> Tensor:
    """Return the contribution (B, N, N) of each input token to each output token, from attentions (B, N, N)."""
    flow = torch.eye(attentions[0].shape[-1]).expand_as(attentions[0])
    for attention in attentions:
        flow = (attention.detach() + torch.eye(attention.shape[-1])) / 2 @ flow
    return flow


def token_map(flow: Tensor) -> Tensor | None:
    """Return the map (B, h, w) of the tokens' contributions to the output; None if they are not a square grid.

    With one token more than a grid, the first is taken as the class token; otherwise the output is the mean of tokens.
    """
    tokens = flow.shape[-1]
    for extra in (0, 1):
        side = math.isqrt(tokens - extra)
        if side > 1 and side**2 == tokens - extra:
            row = flow[:, 0, 1:] if extra else flow.mean(dim=1)  # (B, side²)
            return row.unflatten(1, (side, side))
    return None


def heat_maps(subject: Subject, inputs: Sequence[Tensor], name: str) -> tuple[Tensor, str]:
    """Return attribution maps (B, H, W) in [0, 1] for the predicted class, and the name of the method.

    Raises:
        LeftOut: neither method suits the net.
    """
    net = subject.task.net
    with torch.enable_grad(), Trace(net) as trace:
        logits = subject.task.named_outputs(*inputs)[name]
    batch, size = len(inputs[0]), inputs[0].shape[2:]
    maps, method = None, ""
    if trace.features is not None and any(isinstance(one, CONVOLUTIONS) for one in net.modules()):
        if len(trace.features) == batch and trace.features.requires_grad:
            maps, method = grad_cam(trace.features, logits.amax(dim=1)), "Grad-CAM"
    elif trace.attentions and all(one.shape == (batch, *trace.attentions[0].shape[1:]) for one in trace.attentions):
        maps, method = token_map(rollout(trace.attentions)), "attention rollout"
    if maps is None:
        raise LeftOut(
            f"{type(net).__name__} has neither convolutions, which Grad-CAM needs, nor attention among patches of the "
            "whole image, which attention rollout needs."
        )
    maps = F.interpolate(maps[:, None], size, mode="bilinear")[:, 0]  # (B, H, W)
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12), method


def overlaid(pictures: Tensor, maps: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) beside the same with maps (B, H, W) in [0, 1] overlaid: (B, 3, H, 2 · W)."""
    plain = in_rgb(pictures)
    share = 0.8 * maps[:, None]  # (B, 1, H, W)
    return torch.cat([plain, (1 - share) * plain + share * torch.tensor(HEAT).view(1, 3, 1, 1)], dim=3)


def attribution_section(subject: Subject) -> Section:
    """Show attribution maps for the predicted class on correctly and wrongly classified test images."""
    subject.check_images()
    parts, methods = [], {}
    for name in subject.class_outputs():
        results = subject.results("test")[name]
        for title, positions in select_examples(results).items():
            if len(positions):
                drawn, methods[name] = attribution_gallery(subject, name, title, positions)
                parts.append(drawn)
    method = next(iter(methods.values()))
    meaning = {
        "Grad-CAM": "the channels of the last feature map, weighted by the gradient of the predicted class's logit "
        "(Selvaraju et al. 2017); coarse, as that map is. Without any orange, nothing on it supports the class",
        "attention rollout": "the attention of all blocks, multiplied; independent of the class (Abnar & Zuidema 2020)",
    }[method]
    note = f"By {method}: {meaning}. Each picture: the image, and the same with the most important parts in orange."
    return Section("What the net looks at", note, {"method": methods}, parts)


def select_examples(results: Results) -> dict[str, Tensor]:
    """Return the positions of some random correct predictions, and of the worst wrong ones."""
    right = (results.errors == 0).nonzero().flatten()
    order = torch.randperm(len(right), generator=torch.Generator().manual_seed(0))
    wrong = results.errors.argsort(descending=True)[: int((results.errors > 0).sum())]
    return {"Correct": right[order[:SHOWN]], "Wrong": wrong[:SHOWN]}


def attribution_gallery(subject: Subject, name: str, title: str, positions: Tensor) -> tuple[Gallery, str]:
    """Draw the maps of some test samples, and return them with the name of the method."""
    pictures, maps, method = [], [], ""
    for batch in subject.splits["test"].at(positions):
        *inputs, _ = subject.task.prepare(batch)
        batch_maps, method = heat_maps(subject, inputs, name)
        maps.append(batch_maps)
        pictures.append(inputs[0])
    _, captions, _ = subject.shown(subject.splits["test"].at(positions), name)
    if title == "Correct":
        names = subject.class_outputs()[name]
        labels = subject.results("test")[name].labels
        assert labels is not None
        captions = [class_name(label, names) for label in labels[positions].tolist()]
    shown = overlaid(torch.cat(pictures), torch.cat(maps))
    return gallery(title + label_of(name, subject.class_outputs()), shown, captions), method
