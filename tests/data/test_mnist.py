"""MNIST and Fashion-MNIST: files in the real format, the folders searched, and missing files."""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.data.cifar import CIFAR10DataModule
from src.data.mnist import FILES, FashionMNISTDataModule, MNISTDataModule
from tests.data.conftest import sizes_of

FASHION = Path("/usr/share/datasets/fashion-mnist")
WriteIdx = Callable[[Path, np.ndarray], Path]
WriteMNIST = Callable[..., None]


@pytest.fixture(scope="session")
def write_mnist(write_idx: WriteIdx) -> WriteMNIST:
    """Write the four files, or some: images of one grey each, of classes 0, 1, … 9, 0, …"""

    def write(folder: Path, *, names: tuple[str, ...] = FILES, suffix: str = ".gz", grey: int | None = None) -> None:
        for name in names:
            count = 60 if name.startswith("train") else 20
            numbers = np.arange(count)
            greys = (numbers if grey is None else np.full(count, grey)).reshape(-1, 1, 1)
            array = np.broadcast_to(greys, (count, 28, 28)) if "images" in name else numbers % 10
            write_idx(folder / (name + suffix), array)

    return write


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail as torchvision does without a network."""

    def download(root: str, download: bool) -> None:
        raise RuntimeError(
            "Error downloading train-images:\nTried https://example.org, got:\n<urlopen error no route>\n"
        )

    monkeypatch.setattr("torchvision.datasets.MNIST", download)


def small(folder: Path, **options: Any) -> MNISTDataModule:
    return MNISTDataModule(str(folder), **{"batch_size": 10, "val_size": 10, "system_dir": "/nonexistent", **options})


# ---- the conventional surface, with files of the real size


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory, write_idx: WriteIdx) -> Path:
    folder = tmp_path_factory.mktemp("full_size")
    for part, count, suffix in (("train", 60_000, ""), ("t10k", 10_000, ".gz")):
        numbers = np.arange(count)
        images = np.broadcast_to((numbers % 251).astype(np.uint8).reshape(-1, 1, 1), (count, 28, 28))
        write_idx(folder / "MNIST" / "raw" / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte{suffix}", numbers % 10)
    return folder


@pytest.mark.parametrize("batch_size", [32, 128])
def test_the_datamodule_has_the_surface_that_users_know(batch_size: int, full_size: Path) -> None:
    datamodule = MNISTDataModule(data_dir=str(full_size), batch_size=batch_size)
    datamodule.prepare_data()
    assert not datamodule.data_train and not datamodule.data_val and not datamodule.data_test
    datamodule.setup()
    assert datamodule.data_train and datamodule.data_val and datamodule.data_test
    sizes = [len(part) for part in (datamodule.data_train, datamodule.data_val, datamodule.data_test)]
    assert sizes == [55_000, 5_000, 10_000]
    for batches in (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader()):
        images, labels = next(iter(batches))
        assert images.shape == (batch_size, 1, 28, 28)
        assert labels.shape == (batch_size,)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert list(datamodule.class_names or ()) == list("0123456789")


def test_the_split_of_other_templates_is_taken_where_it_keeps_the_official_test_set(full_size: Path) -> None:
    split = (55_000, 5_000, 10_000)
    datamodule = MNISTDataModule(data_dir=str(full_size), batch_size=64, train_val_test_split=split)
    datamodule.setup()
    parts = (datamodule.data_train, datamodule.data_val, datamodule.data_test)
    assert tuple(len(part) for part in parts if part) == split
    assert FashionMNISTDataModule(train_val_test_split=[50_000, 10_000, 10_000]).val_size == 10_000
    for mixed in ([60_000, 5_000, 5_000], [55_000, 5_000, 5_000]):
        with pytest.raises(ValueError, match=r"the test set is the official one of 10,000: set val_size"):
            MNISTDataModule(data_dir=str(full_size), train_val_test_split=mixed)


def test_the_sizes_without_a_configuration_are_those_of_the_configuration() -> None:
    datamodule = MNISTDataModule()
    assert {name: getattr(datamodule, name) for name in sizes_of("mnist")} == sizes_of("mnist")


# ---- the folders searched for the files


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["data/MNIST/raw", "data", "system"])
@pytest.mark.usefixtures("offline")
def test_files_are_found_in_each_place_plain_or_packed(
    place: str, suffix: str, tmp_path: Path, write_mnist: WriteMNIST
) -> None:
    write_mnist(tmp_path / place, suffix=suffix)
    datamodule = small(tmp_path / "data", system_dir=str(tmp_path / "system"))
    datamodule.prepare_data()
    datamodule.setup()
    assert datamodule.data_test is not None
    images, labels = datamodule.data_test.tensors
    assert images[:, 0, 5, 5].tolist() == list(range(20))
    assert labels.tolist() == list(range(10)) * 2


@pytest.mark.parametrize(
    ("places", "grey"),
    [
        (("data/MNIST/raw", "data", "system"), 0),
        (("data", "system"), 1),
        (("data/MNIST/raw", "system"), 0),
        (("system",), 2),
    ],
)
def test_the_data_folder_comes_before_the_system_s(
    places: tuple[str, ...], grey: int, tmp_path: Path, write_mnist: WriteMNIST
) -> None:
    for place in places:
        write_mnist(tmp_path / place, grey=("data/MNIST/raw", "data", "system").index(place))
    datamodule = small(tmp_path / "data", system_dir=str(tmp_path / "system"))
    datamodule.setup()
    assert datamodule.data_test is not None
    assert datamodule.data_test.tensors[0].unique().tolist() == [grey]


def test_the_two_data_sets_have_folders_of_their_own(tmp_path: Path, write_mnist: WriteMNIST) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", grey=1)
    write_mnist(tmp_path / "FashionMNIST" / "raw", grey=2)
    datamodule = FashionMNISTDataModule(str(tmp_path), 10, val_size=10, system_dir="/nonexistent")
    datamodule.setup()
    assert datamodule.data_test is not None
    assert datamodule.data_test.tensors[0].unique().tolist() == [2]


# ---- downloads


@pytest.mark.parametrize("missing", FILES)
@pytest.mark.usefixtures("offline")
def test_without_files_and_network_one_sentence_says_what_is_missing_and_what_to_do(
    missing: str, tmp_path: Path, write_mnist: WriteMNIST
) -> None:
    present = FILES[: FILES.index(missing)]
    write_mnist(tmp_path / "system", names=present)
    with pytest.raises(FileNotFoundError) as error:
        small(tmp_path / "data", system_dir=str(tmp_path / "system")).prepare_data()
    sentence = str(error.value)
    assert "\n" not in sentence
    assert f"{missing}.gz is missing" in sentence
    assert str(tmp_path / "data" / "MNIST" / "raw") in sentence
    assert "data=mnist_5k" in sentence
    assert "<urlopen error no route>" in sentence
    assert "Tried" not in sentence  # torchvision's list of mirrors helps nobody
    assert list((tmp_path / "data").rglob("*")) == []


def download_to(write_mnist: WriteMNIST, names: tuple[str, ...], error: BaseException | None) -> Callable[..., None]:
    """Return a download that writes some files, packed and unpacked as torchvision does, and then may fail."""

    def download(root: str, download: bool) -> None:
        raw = Path(root, "MNIST", "raw")
        write_mnist(raw, names=names)
        write_mnist(raw, names=names, suffix="")
        sys.stdout.write("a line for every mirror\n")
        if error:
            (raw / "t10k-images-idx3-ubyte.gz").write_bytes(b"the first half")
            raise error

    return download


@pytest.mark.parametrize("error", [RuntimeError("File not found or corrupted."), OSError("No space left")], ids=repr)
def test_a_download_that_fails_half_way_leaves_nothing(
    error: Exception, tmp_path: Path, write_mnist: WriteMNIST, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST", download_to(write_mnist, FILES[:2], error))
    with pytest.raises(FileNotFoundError, match=str(error)):
        small(tmp_path).prepare_data()
    assert list(tmp_path.rglob("*")) == []


def test_a_download_that_is_interrupted_leaves_nothing(
    tmp_path: Path, write_mnist: WriteMNIST, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST", download_to(write_mnist, FILES[:2], KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path).prepare_data()
    assert list(tmp_path.rglob("*")) == []


def test_a_download_puts_the_four_files_in_their_folder_and_says_nothing(
    tmp_path: Path,
    write_mnist: WriteMNIST,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST", download_to(write_mnist, FILES, None))
    datamodule = small(tmp_path / "not" / "there" / "yet")
    datamodule.prepare_data()
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {tmp_path / "not/there/yet/MNIST/raw" / (name + ".gz") for name in FILES}
    assert capsys.readouterr().out == ""
    datamodule.setup()
    assert datamodule.data_train is not None and len(datamodule.data_train) == 50


@pytest.mark.usefixtures("offline")
def test_nothing_is_downloaded_where_the_files_are_already(tmp_path: Path, write_mnist: WriteMNIST) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    small(tmp_path).prepare_data()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# ---- damaged files


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(name: str, tmp_path: Path, write_mnist: WriteMNIST) -> None:
    write_mnist(tmp_path)
    path = tmp_path / f"{name}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=f"{path} is truncated or damaged"):
        small(tmp_path).setup()


@pytest.mark.parametrize(("images", "labels"), [FILES[:2], FILES[2:]])
@pytest.mark.parametrize("count", [7, 0])
def test_files_that_do_not_belong_together_are_named(
    count: int, images: str, labels: str, tmp_path: Path, write_mnist: WriteMNIST, write_idx: WriteIdx
) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / f"{labels}.gz", np.zeros(count))
    with pytest.raises(
        ValueError, match=f"{tmp_path / images}.gz .* images, but {tmp_path / labels}.gz {count} labels"
    ):
        small(tmp_path).setup()


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_empty_files_are_refused(part: str, tmp_path: Path, write_mnist: WriteMNIST, write_idx: WriteIdx) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", np.zeros((0, 28, 28)))
    write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.zeros(0))
    with pytest.raises(ValueError, match=f"{part}-images.* holds 0 images"):
        small(tmp_path).setup()


@pytest.mark.parametrize(("name", "count"), [(FILES[1], 60), (FILES[3], 20)])
def test_a_label_out_of_range_names_the_file(
    name: str, count: int, tmp_path: Path, write_mnist: WriteMNIST, write_idx: WriteIdx
) -> None:
    write_mnist(tmp_path)
    path = write_idx(tmp_path / f"{name}.gz", np.arange(count) % 10 + (np.arange(count) == 15) * 5)
    with pytest.raises(ValueError, match=f"{path} holds the label 10, but .* 0 to 9"):
        small(tmp_path).setup()


# ---- Fashion-MNIST, the real one


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> FashionMNISTDataModule:
    if not FASHION.is_dir():
        pytest.skip(f"{FASHION} is not here: apt-get install dataset-fashion-mnist")
    datamodule = FashionMNISTDataModule(str(tmp_path_factory.mktemp("empty")), system_dir=str(FASHION))
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def test_fashion_mnist_has_the_official_test_set_and_ten_names(fashion: FashionMNISTDataModule) -> None:
    assert fashion.data_train and fashion.data_val and fashion.data_test
    sizes = [len(part) for part in (fashion.data_train, fashion.data_val, fashion.data_test)]
    assert sizes == [55_000, 5_000, 10_000]
    assert fashion.data_test.tensors[1].bincount().tolist() == [1000] * 10
    counts = fashion.data_train.tensors[1].bincount() + fashion.data_val.tensors[1].bincount()
    assert counts.tolist() == [6000] * 10
    with gzip.open(FASHION / "t10k-labels-idx1-ubyte.gz") as file:
        assert fashion.data_test.tensors[1].tolist() == list(file.read()[8:])
    assert len(set(fashion.class_names)) == 10
    assert fashion.class_names[9] == "ankle boot"


def test_fashion_mnist_has_the_pixels_its_authors_published(fashion: FashionMNISTDataModule) -> None:
    # 0.2860 and 0.3530 over all 60,000 training images, as every tutorial has them
    assert fashion.mean == pytest.approx([0.2860], abs=0.001)
    assert fashion.std == pytest.approx([0.3530], abs=0.001)
    images, _ = next(iter(fashion.train_dataloader()))
    assert images.mean() == pytest.approx(0, abs=0.1)
    assert images.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", [MNISTDataModule, CIFAR10DataModule])
def test_nothing_is_downloaded_where_that_is_not_wanted(kind: type, tmp_path: Path) -> None:
    options = {"system_dir": str(tmp_path)} if kind is MNISTDataModule else sizes_of("cifar10")
    with pytest.raises(FileNotFoundError, match=r"is not in .*data\.data_dir=<folder>, or data\.download=true"):
        kind(data_dir=str(tmp_path / "data"), download=False, **options).prepare_data()
    assert not (tmp_path / "data").exists()
