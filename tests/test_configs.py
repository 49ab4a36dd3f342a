"""Every configuration file composes, and what it describes can be built."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from src.config.paths import CONFIGS
from src.run.instantiate import instantiate, instantiate_all

FILES = sorted(path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.yaml"))
# files that are not chosen by themselves, and who includes them
PARTS = {"data/base", "model/base", "model/task", "model/input", "experiment/base", "local", "quantization"}
OF_A_RUN = ("eval", "explain", "export", "predict")
MODELS = [path.name for path in FILES if str(path.parent) == "model"]
COUNTS = {"model": 94, "data": 22, "experiment": 42, "trainer": 7, "callbacks": 18, "logger": 6, "debug": 5}
COUNTS |= {
    "clipping": 3,
    "distillation": 1,
    "hparams_search": 2,
    "hydra/launcher": 4,
    "hydra/sweeper": 2,
    "hydra/sweeper/sampler": 5,
    "hydra/sweeper/pruner": 3,
    "quantization": 1,
    "recipe": 9,
    "model/optimizer": 7,
    "model/scheduler": 6,
    "model/parameter_groups": 2,
    "model/criterion": 2,
    "model/task": 5,
    "model/mixing": 3,
    "model/input": 4,
    "data/augmentation": 7,
    "tta": 4,
}
EXTRAS = {"logger/wandb": "wandb", "logger/mlflow": "mlflow", "model/timm": "timm"}
EXTRAS |= {f"model/optimizer/{name}": "timm" for name in ("lamb", "lion", "muon")}
EXTRAS["model/optimizer/schedule_free"] = "schedulefree"
# of the models whose names do not say it; the hybrids' with the 10 classes of their data's configuration
SIZES = {"simple_mlp": 235_146, "simple_mlp_256_128": 235_146, "timm": 11_181_642}
SIZES |= {"hybrid_light": 14.5e6, "hybrid_base": 52.9e6, "hybrid_heavy": 116.1e6}


# of the data that the default model does not read
READERS = {"text_folder": "text_gru_64k", "csv_series": "sunspots_lstm_6k"}
READERS |= {"sunspots": "sunspots_lstm_6k", "co2": "co2_lstm_6k"}


def choices(group: str) -> list[str]:
    return [path.name for path in FILES if str(path.parent) == group]


def has_mps() -> bool:
    return torch.backends.mps.is_available()


def override(path: Path) -> list[str]:
    """How the command line chooses a file."""
    if str(path.parent) == "." or str(path.parent) in PARTS:
        return []
    chosen = [f"{path.parent}={path.name}"]
    if str(path.parent) == "data" and path.name in READERS:
        return [f"model={READERS[path.name]}", *chosen]
    return (
        ["hydra/sweeper=optuna", *chosen] if path.parts[:2] == ("hydra", "sweeper") and len(path.parts) > 3 else chosen
    )


def test_every_group_has_the_files_it_should() -> None:
    assert {group: len(choices(group)) for group in COUNTS} == COUNTS


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_composes_and_resolves(path: Path, compose: Callable[..., DictConfig]) -> None:
    if path.name in OF_A_RUN:
        pytest.skip(f"{path}.yaml includes a run's configuration: test_eval.py and test_export.py compose them")
    cfg = compose(*override(path))
    assert not OmegaConf.missing_keys(cfg)
    OmegaConf.resolve(cfg)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_what_a_file_describes_can_be_built(path: Path, compose: Callable[..., DictConfig]) -> None:
    if not override(path):
        pytest.skip("a part: built with the files that include it")
    if str(path) in EXTRAS:
        pytest.importorskip(EXTRAS[str(path)], reason=f"{path} needs the extra [{EXTRAS[str(path)]}]")
    cfg = compose(*override(path))
    group = path.parts[0]
    if group in ("callbacks", "logger"):
        objects = instantiate_all(cfg[group], group)
        assert len(objects) == len(cfg[group] or {})  # an entry in the file, an object
    elif group in ("data", "model"):
        assert instantiate(cfg[group]) is not None
    elif group == "trainer":
        devices = {"gpu": torch.cuda.device_count() >= 1, "mps": has_mps()}
        if devices.get(path.name, True):
            assert instantiate(cfg.trainer).max_epochs == 10
        else:
            with pytest.raises(InstantiationException, match=r"No supported gpu backend|MPSAccelerator"):
                instantiate(cfg.trainer)
    else:
        for key in ("data", "model"):
            assert instantiate(cfg[key]) is not None


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "hydra" and len(path.parts) > 2], ids=str)
def test_what_runs_sweeps_can_be_built(path: Path) -> None:
    if path.parts[-2] in ("sampler", "pruner"):
        pytest.importorskip("optuna", reason="studies need the extra [sweep]")
    if path.parent.name == "launcher" and path.name != "local":
        plugin = "hydra_ray_launcher" if path.name == "ray" else "hydra_submitit_launcher"
        pytest.importorskip(f"hydra_plugins.{plugin}", reason=f"{path} needs an extra")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", [*override(path), "hydra.sweep.dir=/tmp/x"], return_hydra_config=True)
    node = OmegaConf.select(cfg, ".".join(path.parts[:-1]))
    assert (node is None) == (path.name == "none")
    if node is not None:
        options = {"search_space": {"x": [1]}} if path.parts[-2:] == ("sampler", "grid") else {}  # of the study's own
        found = hydra.utils.instantiate(node, **options)
        assert type(found).__name__ == node._target_.rpartition(".")[2]


@pytest.mark.parametrize("part", [path for path in FILES if str(path.parent) in PARTS], ids=str)
def test_a_part_is_included_somewhere(part: Path) -> None:
    name = re.compile(
        rf"- (.*(task@_here_|input@_here_|quantization): {part.name}"
        rf"|(/model/)?(base/|task/)?{part.name}(@_here_|@_global_\.trainer)?)$",
        re.MULTILINE,
    )
    users = [path for path in CONFIGS.rglob("*.yaml") if name.search(path.read_text())]
    assert users or part.parent.name == "local"


@pytest.mark.parametrize("name", MODELS)
def test_the_number_in_a_models_name_is_its_parameter_count(name: str, compose: Callable[..., DictConfig]) -> None:
    if name == "timm":
        pytest.importorskip("timm", reason="model=timm needs the extra [timm]")
    model = instantiate(compose(f"model={name}").model)
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    said = re.search(r"_(\d+)([km])$", name)
    if said is None:
        assert name in SIZES, f"{name} does not say its size"
        assert count == pytest.approx(SIZES[name], rel=0.02)
    else:
        assert count == pytest.approx(int(said[1]) * {"k": 1e3, "m": 1e6}[said[2]], rel=0.03)


@pytest.mark.parametrize(
    ("overrides", "data"),
    [
        (["model=mnist_cnn_68k"], "MNISTDataModule"),
        (["model=mnist_cnn_68k", "data=synthetic"], "SyntheticDataModule"),
        (["experiment=quickstart"], "MNIST5kDataModule"),
        (["experiment=quickstart", "model=simple_mlp"], "MNIST5kDataModule"),
        (["experiment=quickstart", "data=fashion_mnist"], "FashionMNISTDataModule"),
    ],
)
def test_data_named_by_the_user_or_an_experiment_wins_over_the_models(
    overrides: list[str], data: str, compose: Callable[..., DictConfig]
) -> None:
    assert compose(*overrides).data._target_.endswith(f".{data}")


@pytest.mark.parametrize(
    ("overrides", "epochs"), [([], 60), (["trainer=cpu"], 60), (["debug=limit"], 3), (["trainer.max_epochs=7"], 7)]
)
def test_a_task_may_change_the_trainer_and_the_user_has_the_last_word(
    overrides: list[str], epochs: int, compose: Callable[..., DictConfig]
) -> None:
    assert compose("model=sunspots_lstm_6k", *overrides).trainer.max_epochs == epochs


RECIPES = {path.name for path in FILES if str(path.parent) == "recipe"}
OF_FAMILIES = [(name, name.split("_")[-2]) for name in MODELS if name.count("_") > 1]


@pytest.mark.parametrize(("name", "family"), [(name, family) for name, family in OF_FAMILIES if family in RECIPES])
def test_a_model_chooses_the_recipe_of_its_family_and_the_user_has_the_last_word(name: str, family: str) -> None:
    if name == "mnist_mh_cnn_422k":
        pytest.skip("several heads, of which nothing was measured")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for overrides, recipe in (([], family), (["recipe=plain"], "plain")):
            cfg = hydra.compose("train", [f"model={name}", *overrides], return_hydra_config=True)
            assert cfg.hydra.runtime.choices.recipe == recipe


def test_what_a_net_needs_of_the_data_follows_from_the_data(compose: Callable[..., DictConfig]) -> None:
    cfg = compose("model=simple_mlp", "data=synthetic", "data.num_classes=7", "data.channels=3", "data.image_size=20")
    net = instantiate(cfg.model.net)
    assert net.features[1].in_features == 3 * 20 * 20
    assert net.head.out_features == 7


@pytest.mark.parametrize("group", ["optimizer", "scheduler", "criterion"])
def test_every_part_of_a_model_can_be_swapped(group: str, compose: Callable[..., DictConfig]) -> None:
    names = choices(f"model/{group}")
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    for name in names:
        if f"model/{group}/{name}" in EXTRAS and find_spec(EXTRAS[f"model/{group}/{name}"]) is None:
            continue
        built: Any = instantiate(compose(f"model/{group}={name}").model[group])
        if group == "optimizer":
            assert built([weight]).param_groups[0]["params"] == [weight]
        elif group == "scheduler":
            optimizer = torch.optim.SGD([weight], lr=0.1)
            assert built(optimizer, total_steps=10, steps_per_epoch=5)["scheduler"].optimizer is optimizer
        else:
            assert built(torch.zeros(1, 3), torch.tensor([1])) > 0
