"""CIFAR-10 and CIFAR-100, read from files in the real format, which the tests write."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torchvision

from src.data.cifar import CIFAR10DataModule, CIFAR100DataModule
from tests.conftest import write_cifar
from tests.data.conftest import sizes_of


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 5 × 40 training and 20 test images, and their checksums instead of the published ones."""
    folder = tmp_path / CIFAR10DataModule.folder
    counts = {**{f"data_batch_{number}": 40 for number in range(1, 6)}, "test_batch": 20}
    files = tuple(write_cifar(folder / name, n, labels=[i % 10 for i in range(n)]) for name, n in counts.items())
    monkeypatch.setattr(CIFAR10DataModule, "files", files)
    return tmp_path


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / CIFAR100DataModule.folder
    files = []
    for name, count in {"train": 100, "test": 100}.items():
        labels = {"fine_labels": list(range(count)), "coarse_labels": [i % 20 for i in range(count)]}
        files.append(write_cifar(folder / name, count, **labels))
    monkeypatch.setattr(CIFAR100DataModule, "files", tuple(files))
    return tmp_path


def test_the_files_and_checksums_are_those_of_torchvision() -> None:
    for ours, theirs in (
        (CIFAR10DataModule, torchvision.datasets.CIFAR10),
        (CIFAR100DataModule, torchvision.datasets.CIFAR100),
    ):
        assert [tuple(entry) for entry in theirs.train_list + theirs.test_list] == list(ours.files)
        assert ours.folder == theirs.base_folder


def test_all_images_are_read_in_order_with_the_official_test_set(cifar10: Path) -> None:
    data = CIFAR10DataModule(str(cifar10), **sizes_of("cifar10", val_size=50, batch_size=10))
    data.prepare_data()
    data.setup()
    assert [len(part) for part in (data.data_train, data.data_val, data.data_test)] == [150, 50, 20]
    with (cifar10 / data.folder / "test_batch").open("rb") as file:
        raw = pickle.load(file, encoding="latin1")["data"]
    images, labels = data.data_test.tensors
    assert (images.numpy() == raw.reshape(-1, 3, 32, 32)).all()
    assert labels.tolist() == [i % 10 for i in range(20)]
    assert data.class_names[3] == "cat"


@pytest.mark.parametrize(("coarse", "classes"), [(False, 100), (True, 20)])
def test_cifar100_serves_fine_or_coarse_classes(cifar100: Path, coarse: bool, classes: int) -> None:
    data = CIFAR100DataModule(str(cifar100), coarse=coarse, **sizes_of("cifar10", num_classes=classes, val_size=10))
    data.setup()
    assert data.data_test.tensors[1].tolist() == [i % classes for i in range(100)]
    with pytest.raises(ValueError, match=f"num_classes=7 must be {classes}"):
        CIFAR100DataModule(str(cifar100), coarse=coarse, **sizes_of("cifar10", num_classes=7))


def test_a_changed_file_is_refused_before_it_is_read(cifar10: Path) -> None:
    path = cifar10 / CIFAR10DataModule.folder / "data_batch_3"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_3 is not the published file"):
        CIFAR10DataModule(str(cifar10), **sizes_of("cifar10")).setup()


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    folder = tmp_path / CIFAR10DataModule.folder
    folder.mkdir()
    content = pickle.dumps({"data": Payload()})
    (folder / "data_batch_1").write_bytes(content)
    monkeypatch.setattr(CIFAR10DataModule, "files", (("data_batch_1", hashlib.md5(content).hexdigest()),) * 2)
    with pytest.raises(pickle.UnpicklingError, match="refused"):
        CIFAR10DataModule(str(tmp_path), **sizes_of("cifar10")).setup()
    assert not (tmp_path / "ran").exists()


def test_without_files_and_network_the_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("URL not open")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(FileNotFoundError, match="data_batch_1 is missing") as caught:
        CIFAR10DataModule(str(tmp_path), **sizes_of("cifar10")).prepare_data()
    assert CIFAR10DataModule.folder in str(caught.value)
    assert not list(tmp_path.iterdir())
