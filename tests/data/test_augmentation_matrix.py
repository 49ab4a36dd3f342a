"""Every augmentation serves every data set: both are found among the configurations, and a net takes a train step."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from src.config.paths import CONFIGS
from src.run.instantiate import instantiate
from tests.data.conftest import write_photographs
from tests.data.test_mask_data import grey, write_folder, write_pets
from tests.test_configs import READERS

# of images: texts and series are not augmented, and rows and pixels are cut from images that are tested here
SEQUENCES = ("_rows", "_pixels", *READERS)
DATA = sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml") if not path.stem.endswith(SEQUENCES))
MASKS = ("digit_scenes", "mask_folder", "oxford_pets")  # data with a class for each pixel
OPTIONS = {"image_folder": ["data.num_workers=0"], "mask_folder": ["data.image_size=24"]}
OPTIONS |= {"oxford_pets": ["data.val_size=2"], "digit_scenes": ["data.train_size=16", "data.val_size=8"]}
AUGMENTATIONS = sorted(path.stem for path in (CONFIGS / "data" / "augmentation").glob("*.yaml"))


@pytest.fixture
def folders(data_dir: Path, tmp_path: Path) -> Path:
    """A data folder with files of every data set that is read from files."""
    shutil.copytree(data_dir, tmp_path / "data")
    shutil.copytree(data_dir / "MNIST", tmp_path / "data" / "FashionMNIST")  # of the same format
    write_photographs(tmp_path / "data" / "images", count=12)
    write_pets(tmp_path / "data" / "oxford-iiit-pet", train=14)
    write_folder(tmp_path / "data" / "masks", grey(0, 1, count=14))
    return tmp_path / "data"


@pytest.mark.parametrize("name", DATA)
def test_every_augmentation_trains_on_every_data_set(
    name: str, folders: Path, compose: Callable[..., DictConfig]
) -> None:
    assert len(DATA) >= 12 and len(AUGMENTATIONS) >= 5
    batches = {}
    for augmentation in AUGMENTATIONS:
        own = [f"data={name}", f"data/augmentation={augmentation}", f"paths.data_dir={folders}", "data.batch_size=8"]
        own += OPTIONS.get(name, ["data.val_size=50"])
        own += ["data.augmentation.degrees=20"] if augmentation == "custom" else []
        model = "scenes_unet_64k" if name in MASKS else "mnist_mh_cnn_422k" if "multihead" in name else "mnist_sdn_8k"
        cfg = compose(f"model={model}", *own)
        datamodule = instantiate(cfg.data)
        datamodule.setup()
        images, labels = batches[augmentation] = next(iter(datamodule.train_dataloader()))
        assert images.shape == (8, cfg.data.channels, cfg.data.image_size, cfg.data.image_size)
        assert images.dtype == torch.float32 and images.isfinite().all()
        if name not in MASKS:  # these move with their images
            assert torch.equal(labels, batches[AUGMENTATIONS[0]][1])  # augmentation changes no order
        task = instantiate(cfg.model)
        loss, _ = task.step((images, labels), task.train_metrics)
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in task.parameters())
        assert torch.equal(next(iter(datamodule.train_dataloader()))[0], images)  # the epoch can be replayed
    plain = batches.pop("none")[0]
    assert not [augmentation for augmentation, (images, _) in batches.items() if torch.equal(images, plain)]
