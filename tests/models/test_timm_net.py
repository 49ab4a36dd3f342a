"""Published weights of timm's nets: from this machine if they are on it, and one clear sentence if they are missing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

timm = pytest.importorskip("timm", reason="model=timm needs the extra [timm]")

from huggingface_hub import constants
from safetensors.torch import save_file

from src.models.components.timm_net import HUB_FILE, timm_net

NAME, REPOSITORY = "test_resnet", "timm/test_resnet.r160_in1k"  # the smallest that timm has weights of


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the hub unreachable, and forbid its client to try, which would retry for a minute, twice."""

    def download(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub's client is asked for a file")

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)


def net(**options: Any) -> nn.Module:
    return timm_net(**{"in_channels": 3, "image_size": 32, "num_classes": 4, "model_name": NAME, **options})


def published(path: Path) -> dict[str, torch.Tensor]:
    """Write weights in the hub's format, for the thousand classes of ImageNet."""
    weights = {name: value.contiguous() for name, value in net(num_classes=1000).state_dict().items()}
    path.parent.mkdir(parents=True)
    save_file(weights, path)
    return weights


def loaded(found: nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    same = [torch.equal(value, weights[name]) for name, value in found.state_dict().items() if "fc." not in name]
    return len(same) > 10 and all(same)


def test_weights_in_the_cache_are_used_without_asking_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / f"models--{REPOSITORY.replace('/', '--')}"
    weights = published(folder / "snapshots" / "abc" / HUB_FILE)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    found = net(pretrained=True, cache_dir=str(tmp_path))
    assert loaded(found, weights) and found.get_classifier().out_features == 4
    assert not loaded(net(cache_dir=str(tmp_path)), weights)


def test_weights_of_a_file_are_used(tmp_path: Path) -> None:
    weights = published(tmp_path / "weights" / HUB_FILE)
    found = net(pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "weights" / HUB_FILE)})
    assert loaded(found, weights)
    with pytest.raises(FileNotFoundError, match=r"pretrained_cfg_overlay\.file=nowhere is not a file"):
        net(pretrained=True, pretrained_cfg_overlay={"file": "nowhere"})


@pytest.mark.parametrize(("name", "reason"), [("damaged", "header"), ("other", "size mismatch for bn1.weight")])
def test_a_file_without_these_weights_is_named_in_a_line(name: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.safetensors"
    path.write_text("no weights")
    if name == "other":
        published(path := tmp_path / "weights" / HUB_FILE)
    with pytest.raises(ValueError, match=rf"file={path} does not hold the weights of resnet18: .*{reason}") as caught:
        net(model_name="resnet18", pretrained=True, pretrained_cfg_overlay={"file": str(path)})
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize("told", [False, True])
def test_without_a_network_the_remedies_are_named(told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", told)
    with pytest.raises(FileNotFoundError) as caught:
        net(pretrained=True, cache_dir=str(tmp_path))
    words = [REPOSITORY, "HF_HUB_OFFLINE is set" if told else "refused"]
    words += [f"model.net.pretrained_cfg_overlay.file={HUB_FILE}", "model.net.pretrained=false"]
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_answer_of_the_hub_leaves_the_download_to_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (tmp_path / "answer").open("wb"))
    with pytest.raises(AssertionError, match="client is asked"):
        net(pretrained=True, cache_dir=str(tmp_path))


def test_a_name_may_say_which_of_several_weights_are_meant() -> None:
    assert sum(parameter.numel() for parameter in net(model_name=f"{NAME}.r160_in1k").parameters()) > 0
    with pytest.raises(ValueError, match="timm has no model_name=resnet_of_nobody"):
        net(model_name="resnet_of_nobody")
