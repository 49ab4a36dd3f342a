"""Protocols of data: ours fulfil them, others are told apart; and no size of a data set is written twice."""

import inspect

import hydra
import lightning as L
import pytest
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, TensorDataset

from src.config.paths import CONFIGS
from src.data.batches import InMemoryLoader
from src.data.image_folder import ImageFolderDataModule
from src.data.in_memory import InMemoryDataModule
from src.data.mnist import MNISTDataModule
from src.data.protocols import ComputesChecksums, KeepsPosition, SeedsBatches
from src.data.resumable_loader import ResumableLoader, SeededSampler
from src.models.classifier import CountsClasses
from src.models.task import DescribesInputs

DATA = TensorDataset(torch.zeros(8, 1, 4, 4), torch.zeros(8))
IN_MEMORY = InMemoryLoader(*DATA.tensors, 4, [0.0], [1.0])
FROM_DISK = ResumableLoader(DATA, 4, sampler=SeededSampler(8, True, True, 0, 0, 1))
OF_TORCH = DataLoader(DATA)


@pytest.mark.parametrize("protocol", [ComputesChecksums, CountsClasses, DescribesInputs])
def test_our_data_modules_tell_what_a_plain_one_need_not(protocol: type) -> None:
    assert all(issubclass(ours, protocol) for ours in (InMemoryDataModule, ImageFolderDataModule))
    assert not isinstance(L.LightningDataModule(), protocol)


@pytest.mark.parametrize(
    ("protocol", "fulfilled"), [(KeepsPosition, [True, True, False]), (SeedsBatches, [True, False, False])]
)
def test_loaders_tell_what_they_can(protocol: type, fulfilled: list[bool]) -> None:
    assert [isinstance(loader, protocol) for loader in (IN_MEMORY, FROM_DISK, OF_TORCH)] == fulfilled


def test_sizes_of_data_sets_stand_in_their_configuration_alone() -> None:
    """But for MNIST's, which has a constructor as users know it; test_mnist.py compares the two."""
    configs = [OmegaConf.load(path) for path in sorted((CONFIGS / "data").glob("*.yaml"))]
    kinds = {base for cfg in configs if "_target_" in cfg for base in hydra.utils.get_class(cfg._target_).__mro__}
    ours = [kind for kind in kinds if kind.__module__.startswith("src.data.")]
    assert {InMemoryDataModule, ImageFolderDataModule, MNISTDataModule} < set(ours)
    sizes = ("channels", "image_size", "batch_size", "val_size", "train_size", "test_size", "num_classes")
    for kind in set(ours) - {MNISTDataModule}:
        parameters = inspect.signature(kind.__init__).parameters if "__init__" in vars(kind) else {}
        defaults = {
            name: one.default for name, one in parameters.items() if name in sizes or name.endswith("_fraction")
        }
        assert not [name for name, value in defaults.items() if value not in (inspect.Parameter.empty, None, 0)], kind
