"""Shared fixtures: composed configurations that write to a temporary folder, and data in the real format."""

import copy
import gzip
import hashlib
import os
import pickle
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

# most tests compute so little that threads cost more than they save, above all on a busy machine; torch reads this when
# it is imported, here and in the programs that tests start
os.environ["OMP_NUM_THREADS"] = "1"

import hydra
import numpy as np
import pytest
import torch
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig

from src.config.paths import CONFIGS
from src.data.cifar import CIFAR10DataModule, CIFAR100DataModule

TINY_RUN = (
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=2",
    "++data.val_size=100",
    "data.batch_size=16",
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Let every test draw the same weights and data, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def configs_are_parsed_once() -> Iterator[None]:
    """Let Hydra cache parsed files: composing takes a large part of the tests' time."""
    Plugins.instance()  # registers the sources
    source_class = SourcesRegistry.instance().resolve("file")
    load: Callable[[ConfigSource, str], ConfigResult] = source_class.load_config

    @cache
    def loaded(provider: str, folder: str, config_path: str, changed: int) -> bytes:
        return pickle.dumps(load(source_class(provider, folder), config_path))

    def load_config(self: ConfigSource, config_path: str) -> ConfigResult:
        file = Path(self.path, self._normalize_file_name(config_path))
        if not file.is_file():
            return load(self, config_path)
        return pickle.loads(loaded(self.provider, self.path, config_path, file.stat().st_mtime_ns))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_class, "load_config", load_config)
        yield


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with small files of MNIST and CIFAR in the real formats: some hundred images of noise each."""
    folder = tmp_path_factory.mktemp("data")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, count in {"train": 300, "t10k": 100}.items():
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in {"images-idx3": images, "labels-idx1": labels}.items():
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
            (raw / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), compresslevel=1))
    for name, _ in CIFAR10DataModule.files:
        write_cifar(folder / CIFAR10DataModule.folder / name, count=60, labels=[i % 10 for i in range(60)])
    for name, _ in CIFAR100DataModule.files:
        classes = {"fine_labels": list(range(100)) * 3, "coarse_labels": list(range(20)) * 15}
        write_cifar(folder / CIFAR100DataModule.folder / name, count=300, **classes)
    return folder


def write_cifar(path: Path, count: int, **labels: list[int]) -> tuple[str, str]:
    """Write a batch file as CIFAR's authors did; return its name and checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(path.name) + count)
    images = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
    path.write_bytes(pickle.dumps({"data": images, "filenames": ["x.png"] * count, **labels}, protocol=2))
    return path.name, hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def cifar_checksums(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect the checksums of the small files instead of the published ones."""
    for module in (CIFAR10DataModule, CIFAR100DataModule):
        paths = [data_dir / module.folder / name for name, _ in module.files]
        files = tuple((path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in paths)
        monkeypatch.setattr(module, "files", files)


@pytest.fixture
def compose(tmp_path: Path, data_dir: Path, cifar_checksums: None) -> Callable[..., DictConfig]:
    """Compose a configuration as the command line would, with its own run directory."""

    def compose_(*overrides: str, config_name: str = "train") -> DictConfig:
        cfg = copy.deepcopy(composed(config_name, overrides))
        folders = {"output_dir": tmp_path, "data_dir": data_dir, "log_dir": tmp_path}
        for name, folder in folders.items():
            if not any(override.startswith(f"paths.{name}=") for override in overrides):
                cfg.paths[name] = str(folder)
        return cfg

    return compose_


@cache
def composed(config_name: str, overrides: tuple[str, ...]) -> DictConfig:
    """A configuration, composed once for all tests that ask for it."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(config_name, list(overrides))
