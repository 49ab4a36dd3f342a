"""Errors when adding a net: each names its key and similar names."""

import re
from pathlib import Path

import hydra
import pytest
from hydra.errors import ConfigCompositionException, InstantiationException, MissingConfigException
from omegaconf import OmegaConf
from yaml import YAMLError

from src.cli import entry_point as cli
from src.cli.errors import describe
from src.config.paths import CONFIGS
from src.models.components.layers import check_positive

CNN = "src.models.components.simple_cnn.SimpleCNN"
CLASSES = {
    f"{CNN}N": f"model.net._target_={CNN}N does not exist: src.models.components.simple_cnn has no SimpleCNNN. "
    "Did you mean SimpleCNN?",
    "src.models.components.simple_cn.SimpleCNN": "src.models.components has no simple_cn. Did you mean simple_cnn",
    "torch.optim.Adamm": "torch.optim has no Adamm. Did you mean Adam, ",
    "sorch.nn.Linear": "there is no package sorch, or it is not installed.",
}


@pytest.mark.parametrize("target", CLASSES)
def test_a_class_that_there_is_not_is_named_with_the_nearest(target: str) -> None:
    cfg = OmegaConf.create({"model": {"net": {"_target_": target}}})
    with pytest.raises(InstantiationException) as caught:
        hydra.utils.instantiate(cfg.model)
    sentence = describe(caught.value)
    assert sentence.startswith(f"model.net._target_={target} does not exist: ") and CLASSES[target] in sentence


def test_a_module_that_lacks_another_one_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_of_mine.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = OmegaConf.create({"net": {"_target_": "module_of_mine.Net"}})
    with pytest.raises(InstantiationException) as caught:
        hydra.utils.instantiate(cfg.net)
    assert "No module named 'no_such_package'" in describe(caught.value)


def test_an_argument_that_a_class_does_not_take_is_named_with_the_nearest() -> None:
    net = {"_target_": CNN, "in_channels": 1, "image_size": 28, "num_classes": 2, "hiden_size": 8}
    with pytest.raises(InstantiationException) as caught:
        hydra.utils.instantiate(OmegaConf.create({"model": {"net": net}}).model)
    expected = "model.net.hiden_size: SimpleCNN takes no such argument. Did you mean hidden_size"
    assert describe(caught.value).startswith(expected)


def test_an_argument_that_something_within_does_not_take_is_told_as_it_is() -> None:
    cfg = OmegaConf.create({"part": {"_target_": "tests.cli.test_built_objects.outer", "width": 3}})
    with pytest.raises(InstantiationException) as caught:
        hydra.utils.instantiate(cfg.part)
    assert describe(caught.value) == "part: TypeError: inner() got an unexpected keyword argument 'width'"


def outer(width: int) -> None:
    """Call a function with an argument that it does not take."""
    inner(width=width)  # type: ignore[call-arg]


def inner() -> None:
    """Take no arguments."""


def test_a_yaml_error_is_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("net:\n  hidden_size: 3: 4\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"), pytest.raises(YAMLError) as caught:
        hydra.compose("mine")
    sentence = describe(caught.value)
    assert sentence.startswith(f"{tmp_path}/mine.yaml, line 2, column 17: ") and "\n" not in sentence


@pytest.mark.parametrize("typed", [True, False])
def test_a_part_of_a_configuration_that_there_is_not_is_named_with_the_nearest(
    typed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "CONFIGS", tmp_path)
    (tmp_path / "model" / "base").mkdir(parents=True)
    (tmp_path / "model" / "base" / "classifier.yaml").write_text("a: 1\n")
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [base/classifer@_here_]\n")
    (tmp_path / "train.yaml").write_text("defaults: [model: mine]\n")
    with (
        hydra.initialize_config_dir(str(tmp_path), version_base="1.3"),
        pytest.raises(MissingConfigException) as caught,
    ):
        hydra.compose("train", ["model=base/classifer"] if typed else [])
    told = "model/base=classifer" if typed else "model/base/classifer, which configs/model/mine.yaml refers to"
    assert describe(caught.value) == f"There is no {told}. Did you mean classifier?"


def test_a_group_of_another_program_is_not_offered_to_be_added() -> None:
    with (
        hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"),
        pytest.raises(ConfigCompositionException) as caught,
    ):
        hydra.compose("compare", ["model=mnist_sdn_8k"])
    assert describe(caught.value) == "model= is not a group of this program; see --help."


def test_a_choice_on_the_command_line_is_not_blamed_on_the_file_whose_choice_it_replaces() -> None:
    overrides = ["model/optimizer=sgdd"]
    with (
        hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"),
        pytest.raises(MissingConfigException) as caught,
    ):
        hydra.compose("train", overrides)
    assert describe(caught.value, "train", overrides) == "There is no model/optimizer=sgdd. Did you mean sgd?"


def test_an_unexpected_error_comes_with_its_line_in_this_checkout() -> None:
    with pytest.raises(TypeError) as caught:
        check_positive(hidden_size="wide")  # type: ignore[arg-type]
    assert re.search(r"^TypeError: .* \(src/models/components/\w+\.py:\d+\)$", describe(caught.value))
    with pytest.raises(TypeError) as caught:
        len(None)  # type: ignore[arg-type]
    assert describe(caught.value) == "TypeError: object of type 'NoneType' has no len()"


def test_a_mapping_for_a_list_is_not_called_a_missing_key() -> None:
    with (
        hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"),
        pytest.raises(ConfigCompositionException) as caught,
    ):
        hydra.compose("train", ["model=pets_unet_2m", "data=mask_folder", "data.classes={a:0}"])
    assert describe(caught.value, "train") == (
        "data.classes cannot take this value: Cannot merge DictConfig with ListConfig."
    )
