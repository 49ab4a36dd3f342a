"""Every named model, found by its configuration: all its parameters train, it uses the whole image, and it exports."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.config.paths import CONFIGS
from src.run.instantiate import instantiate
from tests.deploy.conftest import AUTOENCODER, BOTTLENECK, FAMILIES, MULTIHEAD, SHALLOW
from tests.test_configs import COUNTS

MODELS = sorted(path.stem for path in CONFIGS.glob("model/*.yaml"))
# the larger hybrids differ from the light one in sizes alone, and take long
TESTED = [name for name in MODELS if name not in {"hybrid_base", "hybrid_heavy", "simple_mlp_256_128"}]


# compiling takes seconds for each net: one of a kind at each commit, no deeper than it must be, and all of them, whole,
# in `make test-slow`
KINDS = {"mnist_sdn_8k", "simple_mlp", "mnist_cnn_8k", "mnist_convnext_18k", "mnist_vit_38k", "mnist_efficientnet_22k"}
KINDS |= {"mnist_hybrid_210k", "mnist_mh_cnn_422k", "hybrid_light", "mnist_autoencoder_5k"}
KINDS |= {"cifar10_resnet20_270k", "mnist_resnet_64k", "mnist_regnet_210k", "mnist_efficientnetv2_210k"}
KINDS |= {"mnist_autoencoder_58k", "mnist_mobilevit_210k", "mnist_convnext1_210k", "cifar10_vgg_2474k"}
KINDS |= {"scenes_unet_64k", "rows_lstm_64k", "rows_gru_64k", "rows_transformer_210k", "pixels_tcn_64k"}
KINDS |= {"mnist_airbench_210k", "text_gru_64k", "text_transformer_210k"}
SHALLOW_HERE = {**SHALLOW, "cifar10_resnet20_270k": ("model.net.depths=[1,1,1]",)}
COMPILED = [pytest.param(name, marks=() if name in KINDS - {*SHALLOW_HERE} else pytest.mark.slow) for name in TESTED]
COMPILED += [f"{name}, shallow" for name in sorted(KINDS & {*SHALLOW_HERE})]
# tests/deploy/test_formats.py traces one of each other kind for all formats
EXPORTED = KINDS - {*FAMILIES, MULTIHEAD, AUTOENCODER, BOTTLENECK}


@pytest.fixture(params=TESTED)
def built(request: pytest.FixtureRequest, compose: Callable[..., DictConfig]) -> tuple[str, nn.Module, Tensor]:
    """A model's name, its net, and a batch of noise in its data's shape."""
    if request.param == "timm":
        pytest.importorskip("timm", reason="model=timm needs the extra [timm]")
    torch.manual_seed(0)
    name, _, shallow = request.param.partition(", ")
    cfg = compose(f"model={name}", *(SHALLOW_HERE[name] if shallow else ()))
    shape = (3, *cfg.model.input_shape)
    inputs = torch.randn(shape) if len(shape) > 2 else torch.randint(1, cfg.data.vocabulary_size, shape)
    return request.param, instantiate(cfg.model.net), inputs


def total(output: Any) -> Tensor:
    """Return the sum of all logits of all heads."""
    return sum(head.sum() for head in output.values()) if isinstance(output, dict) else output.sum()


def joined(output: Any) -> Tensor:
    """Return all outputs of an image in one row."""
    return torch.cat([values.flatten(1) for values in output.values()], 1) if isinstance(output, dict) else output


def settle(net: nn.Module, images: Tensor) -> None:
    """Give norms statistics, and parameters that start at zero random values, so that they hide nothing."""
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
        net.train()(torch.cat([images] * 2))
    net.eval()


def test_there_are_as_many_models_as_the_specification_names() -> None:
    assert len(MODELS) == COUNTS["model"]


def test_every_parameter_gets_a_finite_gradient(built: tuple[str, nn.Module, Tensor]) -> None:
    name, net, images = built
    with torch.no_grad():
        for parameter in net.parameters():  # GRN's scale starts at zero, and would hide what lies before it
            if not parameter.any():
                parameter.normal_(std=0.1)
    logits = joined(net.train()(images))
    (logits * torch.randn_like(logits)).sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), f"{name}: {key}"
        assert parameter.grad.any(), f"{name}: {key} gets no gradient"


def test_a_batch_gives_what_its_images_give_one_by_one(built: tuple[str, nn.Module, Tensor]) -> None:
    _, net, images = built
    settle(net, images)
    with torch.no_grad():
        one_by_one = torch.cat([joined(net(image[None])) for image in images])
        torch.testing.assert_close(joined(net(images)), one_by_one, atol=1e-4, rtol=1e-4)


def test_every_part_of_the_input_counts(built: tuple[str, nn.Module, Tensor]) -> None:
    _, net, images = built
    if not images.is_floating_point():
        pytest.skip("tokens have no gradient: test_sequence_nets.py changes each")
    settle(net, images)
    images = images[:1].requires_grad_()
    logits = joined(net(images))
    (logits * torch.randn_like(logits)).sum().backward()
    assert images.grad is not None
    gradient = images.grad.abs()
    if images.ndim == 3:
        assert gradient.amax(dim=2).all(), "some step of the series does not reach the output"
    else:
        regions = nn.functional.max_pool2d(gradient.amax(dim=1, keepdim=True), 4)
        assert (regions > 0).all(), "some region of 4×4 pixels does not reach the output"


def test_a_batch_of_one_trains_where_the_net_allows_it(built: tuple[str, nn.Module, Tensor]) -> None:
    name, net, images = built
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
    net.train()
    if norms or name == "timm":  # normalising one vector by itself leaves nothing
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            net(images[:1])
    else:
        total(net(images[:1])).backward()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    "built", [pytest.param(name, marks=() if name in EXPORTED else pytest.mark.slow) for name in TESTED], indirect=True
)
def test_it_exports_with_any_batch_size_and_computes_the_same(built: tuple[str, nn.Module, Tensor]) -> None:
    _, net, images = built
    if any(isinstance(module, nn.GRU) for module in net.modules()):
        images = images[:, :8]  # torch.export unrolls a GRU: minutes for hundreds of steps
    settle(net, images)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        exported = torch.export.export(net, (images,), dynamic_shapes=({0: batch},)).module()
        torch.testing.assert_close(joined(exported(images[:2])), joined(net(images[:2])), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("built", COMPILED, indirect=True)
def test_it_compiles_without_a_graph_break(built: tuple[str, nn.Module, Tensor]) -> None:
    """Traced whole; `aot_eager` leaves out the code generation, which costs a minute a net and is not ours.

    torch's recurrent layers alone run as they are: unrolled, hundreds of steps would take minutes to compile.
    """
    _, net, images = built
    settle(net, images)
    torch.compiler.reset()
    with torch.no_grad():
        whole = not any(isinstance(module, nn.RNNBase) for module in net.modules())
        compiled = torch.compile(net, fullgraph=whole, backend="aot_eager")
        torch.testing.assert_close(joined(compiled(images)), joined(net(images)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("variant", "millions"), [("light", 14.7), ("base", 53.1), ("heavy", 116.3)])
def test_the_hybrids_of_224_px_have_the_specified_sizes(
    variant: str, millions: float, compose: Callable[..., DictConfig]
) -> None:
    cfg = compose(f"model=hybrid_{variant}", "data.num_classes=1000")
    with torch.device("meta"):
        net = instantiate(cfg.model.net)
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(millions * 1e6, rel=0.02)


def test_the_hybrids_six_parts_give_the_specified_shapes(compose: Callable[..., DictConfig]) -> None:
    net = instantiate(compose("model=hybrid_base", "data.num_classes=1000").model.net).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for part in ("stem", "backbone", "gate", "global_embed", "encoder", "head"):
        hook = lambda _m, _i, output, part=part: shapes.__setitem__(part, tuple(output.shape))  # noqa: E731
        net.get_submodule(part).register_forward_hook(hook)
    with torch.no_grad():
        net(torch.randn(2, 3, 224, 224))
    assert shapes == {
        "stem": (2, 64, 56, 56),
        "backbone": (2, 512, 7, 7),
        "gate": (2, 512, 7, 7),
        "global_embed": (2, 768),
        "encoder": (2, 49, 768),
        "head": (2, 1000),
    }
    assert net.position.shape == (49, 768)
    assert math.isclose(net.encoder[0].attention.qkv.weight.shape[0] / 3 / net.encoder[0].attention.num_heads, 96)
