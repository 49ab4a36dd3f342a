"""What is asked of data: ours has it all, and what has it not is told apart."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from src.data.batches import InMemoryLoader
from src.data.image_folder import ImageFolderDataModule
from src.data.in_memory import InMemoryDataModule
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
