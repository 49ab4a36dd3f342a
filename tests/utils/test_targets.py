"""A configuration from a file builds what is allowed, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from src.utils.cli import CONFIGS
from src.utils.targets import check_targets

REFUSED = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "src.utils.run_record.git",
    "src.data.mnist.os.system",
    "src.utils.cli.traceback.os.system",
    "torch.nn.modules.module.warnings.warn",
    "torch.load",
    "torch.hub.load",
    "hydra.utils.instantiate",
    "lightning.pytorch.trainer.trainer.os.system",
    "srcx.models.Net",
    "src.models.components.no_such_net.Net",
    "src",
    "",
    7,
]


@pytest.mark.parametrize("target", REFUSED, ids=str)
def test_anything_else_is_refused_by_name(target: object) -> None:
    cfg = OmegaConf.create({"model": {"net": {"layers": [{"_target_": target}]}}})
    with pytest.raises(ValueError, match="is refused") as error:
        check_targets(cfg)
    assert f"model.net.layers.0._target_={target} " in str(error.value)


MODELS = sorted(path.stem for path in CONFIGS.glob("model/*.yaml"))


@pytest.mark.parametrize("name", [*MODELS[::6], "timm"])
def test_what_this_project_builds_is_allowed(name: str, compose: Callable[..., DictConfig]) -> None:
    callbacks = "callbacks=[default,cpu_autotune,op_profile]"
    check_targets(compose(f"model={name}", callbacks))


@pytest.mark.parametrize("group", ["data", "model/optimizer", "model/scheduler", "data/augmentation", "callbacks"])
def test_every_choice_of_a_group_is_allowed(group: str, compose: Callable[..., DictConfig]) -> None:
    names = [path.stem for path in (CONFIGS / group).glob("*.yaml") if path.parent.name != "base"]
    assert names
    for name in names:
        folder = ["data.folder=/tmp", "data.num_classes=2"] if name == "image_folder" else []
        custom = ["data/augmentation=none"] if name == "custom" else []
        check_targets(compose(f"{group}={name}" if not custom else custom[0], *folder))


@pytest.mark.parametrize("value", ["${oc.create:{_target_: os.mkdir}}", "a ${oc.decode:'{}'}", "${ oc.dict.values:x}"])
def test_values_that_could_be_made_into_anything_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"\$\{oc\.\S+:…\} is refused"):
        check_targets(OmegaConf.create({"callbacks": {"x": value}}))
    check_targets(OmegaConf.create({"a": "${b}", "b": "${hydra:runtime.output_dir}/${oc.env:HOME}"}))


def test_a_package_that_the_user_trusts_is_allowed() -> None:
    cfg = OmegaConf.create({"net": {"_target_": "collections.OrderedDict"}})
    with pytest.raises(ValueError, match=r"net\._target_=collections.OrderedDict is refused.*allowed_targets"):
        check_targets(cfg)
    check_targets(cfg, ["collections"])


def test_the_sentence_comes_before_anything_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    cfg = OmegaConf.create({"x": {"_target_": "os.system", "_args_": [f"touch {marker}"]}})
    with pytest.raises(ValueError, match=r"x\._target_=os\.system is refused"):
        check_targets(cfg)
    assert not marker.exists()
