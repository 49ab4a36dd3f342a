"""Training from published weights: `model.net.weights=<file>` reads a state dict once, and no other files."""

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.convnext import ConvNeXt as PublishedConvNeXt
from torchvision.models.resnet import BasicBlock
from torchvision.models.resnet import ResNet as PublishedResNet

from src.models.components.convnext import ConvNeXt
from src.models.components.resnet import ResNet
from src.run.instantiate import instantiate, load_model
from src.run.published_weights import load_weights, weights_file
from src.train import train
from tests.conftest import TINY_RUN
from tests.programs import run

RUN = (*TINY_RUN, "data=synthetic", "data.channels=3", "data.image_size=64", "model=cifar10_resnet_210k", "logger=none")
RUN += ("model.net.depths=[1,1,1,1]", "model.net.dims=[64,128,256,512]")
UNTRAINED = ("train=false", "test=false")


def published() -> nn.Module:
    """torchvision's ResNet-10 with random weights."""
    return PublishedResNet(BasicBlock, [1, 1, 1, 1])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file with its state dict."""
    path = tmp_path / "resnet, of 10=layers.pth"
    torch.save(published().state_dict(), path)
    return path


def resnet() -> ResNet:
    return ResNet(in_channels=3, image_size=64, num_classes=1000, depths=(1, 1, 1, 1))


def test_a_run_starts_from_a_file_and_says_what_it_leaves_out(
    weights: Path, compose: Callable[..., DictConfig], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    theirs = torch.load(weights, weights_only=True)
    cfg = compose(*RUN, *UNTRAINED)
    cfg.model.net.weights = str(weights)
    ours = train(cfg)[1]["model"].net.state_dict()
    assert torch.equal(ours["stem.0.weight"], theirs["conv1.weight"])
    fresh = train(compose(*RUN, *UNTRAINED))[1]["model"].net.state_dict()
    assert torch.equal(ours["head.weight"], fresh["head.weight"])
    (line,) = [message for message in caplog.messages if "weights=" in message]
    assert line == (
        f"model.net.weights={weights}: loaded all tensors but those of the last layer; new in the net: head.weight "
        "(10, 512), head.bias (10,); unused from the file: fc.weight (1000, 512), fc.bias (1000,)"
    )


def test_the_file_is_read_once_and_may_be_gone_when_the_run_goes_on_or_is_used(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = run("train", *RUN, f"model.net.weights={weights}", f"hydra.run.dir={folder}")
    assert first.returncode == 0, first.stderr
    assert f"model.net.weights={weights}: loaded" in first.stderr
    weights.unlink()
    second = run("train", f"resume={folder}", "trainer.max_epochs=2")
    assert second.returncode == 0, second.stderr
    tested = run("eval", f"run_dir={folder}", f"hydra.run.dir={tmp_path}/eval", "trainer.limit_test_batches=1")
    assert tested.returncode == 0, tested.stderr
    assert load_model(folder / "checkpoints" / "last.ckpt") is not None
    again = run("train", f"reproduce={folder}", f"hydra.run.dir={tmp_path}/again")  # starts as the run did
    assert again.returncode != 0 and f"model.net.weights={weights} is not a file" in again.stderr


def test_weights_and_a_run_to_start_from_are_not_given_at_once(
    weights: Path, compose: Callable[..., DictConfig]
) -> None:
    cfg = compose(*RUN, f"init_from={weights.parent}")
    cfg.model.net.weights = str(weights)
    (weights.parent / "checkpoints").mkdir()
    torch.save({"state_dict": {}}, weights.parent / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match=r"init_from= and model.net.weights= .*: give one of them"):
        train(cfg)


def test_torchvisions_layer_scales_are_loaded(tmp_path: Path) -> None:
    sizes = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)]
    theirs = PublishedConvNeXt(sizes, num_classes=10)
    torch.save(theirs.state_dict(), tmp_path / "convnext.pth")
    ours = ConvNeXt(in_channels=3, image_size=64, num_classes=10, depths=(1, 2), dims=(8, 16))
    load_weights(ours, tmp_path / "convnext.pth")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_safetensors_of_timm_are_ordered_by_the_net_that_their_folder_names(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="safetensors come with the extra [timm]")
    from safetensors.torch import save_file

    theirs = timm.create_model("resnet18")
    path = tmp_path / "model.safetensors"
    save_file(theirs.state_dict(), path)
    ours = ResNet(in_channels=3, image_size=64, num_classes=1000)
    with pytest.raises(ValueError, match=r"model\.safetensors lists its tensors by name.*use the same weights in"):
        load_weights(ours, path)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet34"}))
    with pytest.raises(ValueError, match=r"lists its tensors by name"):
        load_weights(ours, path)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    load_weights(ours, path)
    assert torch.equal(ours.head.weight, theirs.fc.weight)
    torch.testing.assert_close(ours.stem[0].weight, theirs.conv1.weight)
    save_file(ours.state_dict(), path)
    (tmp_path / "config.json").unlink()
    load_weights(ours, path)  # its own names need no order


class Code:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_missing_or_damaged_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    net = OmegaConf.create({"_target_": "src.models.components.resnet.ResNet", "weights": str(path)})
    with pytest.raises(FileNotFoundError, match=rf"^model\.net\.weights={path} is not a file\.$"):
        weights_file(net)
    path.write_bytes(b"these are no weights")
    with pytest.raises(ValueError, match=rf"^model\.net\.weights={path} cannot be read: it is damaged, or holds code"):
        load_weights(resnet(), path)


def test_a_file_of_code_runs_none_of_it(tmp_path: Path) -> None:
    path, touched = tmp_path / "code.pth", tmp_path / "touched"
    for content in ({"weight": Code(touched)}, nn.Linear(1, 1)):
        torch.save(content, path)
        with pytest.raises(ValueError, match="holds code or objects besides tensors"):
            load_weights(resnet(), path)
    path.write_bytes(pickle.dumps(Code(touched)))
    with pytest.raises(ValueError, match="holds code"):
        load_weights(resnet(), path)
    assert not touched.exists()


@pytest.mark.parametrize("content", [{"model": {}}, {1: torch.zeros(1)}, [1], torch.zeros(1)])
def test_what_is_not_a_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"is not a state dict, .* init_from="):
        load_weights(resnet(), tmp_path / "other.pth")


def test_weights_of_another_net_are_refused_with_the_first_that_does_not_fit(weights: Path) -> None:
    net = ResNet(in_channels=1, image_size=64, num_classes=10, depths=(1, 1, 1, 1))
    words = r"stem\.0\.weight \(64, 1, 7, 7\), the file has conv1\.weight \(64, 3, 7, 7\)\. Set model\.net"
    with pytest.raises(ValueError, match=words):
        load_weights(net, weights)


class TakesWeights(nn.Linear):
    """A net whose constructor takes weights, as those of torchvision do."""

    def __init__(self, weights: str | None = None) -> None:
        super().__init__(2, 2)
        self.given = weights


def test_a_net_with_an_argument_for_weights_gets_it() -> None:
    net = {"_target_": "tests.run.test_published_weights.TakesWeights", "weights": "DEFAULT"}
    cfg = OmegaConf.create({"net": net})
    assert instantiate(cfg.net).given == "DEFAULT" and weights_file(cfg.net) is None


@pytest.mark.parametrize("part", ["model", "model.net"])
def test_other_nets_are_built_without_the_key(part: str, compose: Callable[..., DictConfig]) -> None:
    cfg = compose("model=mnist_cnn_8k")
    assert instantiate(OmegaConf.select(cfg, part)) is not None and cfg.model.net.weights is None
