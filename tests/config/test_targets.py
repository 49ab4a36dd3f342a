"""A configuration from a file instantiates only the classes registered for each role."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf
from torch import nn, optim

from src.config import targets
from src.config.paths import CONFIGS
from src.config.targets import (
    AUGMENTATION,
    CRITERION,
    DATA,
    MIXING,
    NET,
    OPTIMIZER,
    PARAMETER_GROUPS,
    TASK,
    blocks,
    check_targets,
    registry,
    role_of,
)
from src.models.mixing import Mixing
from src.models.parameter_groups import ParameterGroups
from tests.test_configs import READERS

BASES = {TASK: LightningModule, NET: nn.Module, OPTIMIZER: optim.Optimizer, CRITERION: nn.Module}
BASES |= {DATA: LightningDataModule, MIXING: Mixing, PARAMETER_GROUPS: ParameterGroups}
# functions, which have no base class: registered by name
FUNCTIONS = {
    "src.models.components.timm_net.timm_net",
    "src.models.schedulers.constant",
    "src.models.schedulers.cosine_warm_restarts",
    "src.models.schedulers.linear",
    "src.models.schedulers.one_cycle",
    "src.models.schedulers.plateau",
    "src.models.schedulers.warmup_cosine",
}
REFUSED: list[Any] = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "src.run.record.git",
    "src.data.mnist.os.system",
    "src.cli.entry_point.traceback.os.system",
    "torch.nn.modules.module.warnings.warn",
    "torch.load",
    "torch.hub.load",
    "hydra.utils.instantiate",
    "lightning.pytorch.Trainer",
    "lightning.pytorch.trainer.trainer.Trainer.fit",
    "lightning.pytorch.trainer.trainer.Trainer.test",
    "lightning.pytorch.trainer.trainer.os.system",
    "lightning.pytorch.loggers.CSVLogger",
    "src.callbacks.image_report.ImageReport",
    "src.models.classifier.Classifier.load_from_checkpoint",
    "src.models.components.simple_cnn.SimpleCNN.load_state_dict",
    "src.models.components.layers.math",
    "torch.nn.Module",
    "srcx.models.Net",
    "src.models.components.no_such_net.Net",
    "src",
    "",
    7,
    None,
    ["src.models.components.simple_cnn.SimpleCNN"],
    {"_target_": "src.models.components.simple_cnn.SimpleCNN"},
]
KEYS = [
    "model",
    "model.net",
    "model.net.layers.0",
    "model.optimizer",
    "model.scheduler",
    "model.criterion",
    "model.mixing",
    "model.parameter_groups",
]
KEYS += ["data", "data.augmentation", "callbacks.x", "logger.x", "trainer", "hydra.x"]


def nested(key: str, block: dict[str, Any]) -> dict[str, Any]:
    """A configuration with a block at a dotted key."""
    for part in reversed(key.split(".")):
        block = [block] if part == "0" else {part: block}  # type: ignore[assignment]
    return block


@pytest.mark.parametrize("key", KEYS)
def test_anything_else_is_refused_by_name(key: str) -> None:
    for target in REFUSED:
        with pytest.raises(ValueError, match="is refused") as error:
            check_targets(nested(key, {"_target_": target}))
        assert f"{key}._target_={target} " in str(error.value)


def test_everything_that_is_reachable_is_a_class_of_its_role_or_a_known_function() -> None:
    functions = set()
    for role, names in registry().items():
        assert names, role
        for name in names:
            module, _, attribute = name.rpartition(".")
            if module == "schedulefree" and find_spec(module) is None:
                continue  # an optional extra
            found = getattr(importlib.import_module(module), attribute)
            if isinstance(found, type):
                assert role == AUGMENTATION or issubclass(found, BASES[role]), name
            else:
                functions.add(name)
    assert functions - registry()[AUGMENTATION] == FUNCTIONS
    assert registry()[AUGMENTATION] == {
        "src.data.augmentation.BatchAugmentation",
        "src.data.image_folder.random_view",
    }


def test_a_class_has_its_place_and_no_other() -> None:
    for key in KEYS:
        for role, names in registry().items():
            for name in sorted(names)[::5]:
                config = nested(key, {"_target_": name})
                if role_of(key) == role:
                    check_targets(config)
                elif name not in registry().get(role_of(key) or "", ()):
                    with pytest.raises(ValueError, match="is refused"):
                        check_targets(config)


@pytest.mark.parametrize("name", ["_args_", "_recursive_", "_convert_", "_anything_"])
def test_hydras_other_keys_are_refused(name: str) -> None:
    good = "src.models.components.simple_cnn.SimpleCNN"
    with pytest.raises(ValueError, match=rf"model.net.{name} is refused"):
        check_targets({"model": {"net": {"_target_": good, name: ["x"]}}})
    with pytest.raises(ValueError, match=r"model.net._partial_ is refused"):
        check_targets({"model": {"net": {"_target_": good, "_partial_": "x"}}})


MODELS = sorted(path.stem for path in CONFIGS.glob("model/*.yaml"))


def built_of(cfg: DictConfig) -> Any:
    return {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("model", "data")}


@pytest.mark.parametrize("name", MODELS)
def test_what_this_project_builds_is_allowed(name: str, compose: Callable[..., DictConfig]) -> None:
    config = built_of(compose(f"model={name}"))
    check_targets(config)
    assert {"model", "model.net", "model.optimizer", "data"} <= {key for key, node in blocks(config)}


@pytest.mark.parametrize(
    "group",
    ["data", "model/optimizer", "model/scheduler", "model/parameter_groups", "model/criterion", "data/augmentation"],
)
def test_every_choice_of_a_group_is_allowed(group: str, compose: Callable[..., DictConfig]) -> None:
    names = [path.stem for path in (CONFIGS / group).glob("*.yaml") if path.parent.name != "base"]
    assert names
    for name in names:
        folder = ["data.folder=/tmp", "data.num_classes=2"] if name == "image_folder" else []
        reader = [f"model={READERS[name]}"] if group == "data" and name in READERS else []
        check_targets(built_of(compose(f"{group}={name}", *folder, *reader)))


def test_a_package_that_the_user_trusts_is_allowed() -> None:
    config = {"model": {"net": {"_target_": "collections.OrderedDict"}}}
    with pytest.raises(ValueError, match=r"net\._target_=collections.OrderedDict is refused.*allowed_targets"):
        check_targets(config)
    check_targets(config, ["collections"])
    with pytest.raises(ValueError, match="is refused"):
        check_targets(config, ["collection"])


def test_the_sentence_comes_before_anything_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(ValueError, match=r"model\.x\._target_=os\.system is refused"):
        check_targets({"model": {"x": {"_target_": "os.system", "command": f"touch {marker}"}}})
    assert not marker.exists()


def test_an_augmentation_within_the_configuration_of_a_data_set_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    block = (
        "_target_: src.data.mnist.MNISTDataModule\naugmentation:\n  _target_: src.data.mine.blur\n  _partial_: true\n"
    )
    (tmp_path / "data" / "mine.yaml").write_text(block)
    monkeypatch.setattr(targets, "CONFIGS", tmp_path)
    monkeypatch.setattr(targets, "registry", targets.registry.__wrapped__)
    check_targets({"data": {"augmentation": {"_target_": "src.data.mine.blur", "_partial_": True}}})
    with pytest.raises(ValueError, match="is refused"):
        check_targets({"data": {"augmentation": {"_target_": "src.data.mnist.MNISTDataModule"}}})


def test_a_broken_file_of_ones_own_is_named_and_breaks_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "own_tasks"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.py").write_text("import no_such_package\n")
    (package / "whole.py").write_text("class Whole(dict): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert targets.defined_in("own_tasks", dict) == {"own_tasks.whole.Whole"}
    assert "own_tasks.broken cannot be imported: ModuleNotFoundError: No module named 'no_such_package'" in caplog.text
