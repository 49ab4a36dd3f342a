"""The folds of cross-validation: every training sample is in one validation set, and nothing else changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from src.data.digit_scenes import DigitScenesDataModule
from src.data.in_memory import InMemoryDataModule
from src.data.splits import Fold, split_missing
from src.run.instantiate import instantiate
from tests.data.conftest import write_photographs
from tests.data.test_in_memory import split, tensors
from tests.data.test_mask_data import folder_data, grey, write_folder
from tests.data.test_text_folder import module as text_data
from tests.data.test_text_folder import texts_in, write_texts

DataModule = type[InMemoryDataModule]


def check_folds(folds: list[tuple[set[Any], set[Any], set[Any]]]) -> None:
    """Check train, val and test of all folds: complete, without overlap, of equal size, always with the same test."""
    everything = folds[0][0] | folds[0][1]
    for train, val, test in folds:
        assert not train & val and train | val == everything and not test & everything and test == folds[0][2]
    assert sum(len(val) for _, val, _ in folds) == len(everything) == len(set.union(*(val for _, val, _ in folds)))
    sizes = [len(val) for _, val, _ in folds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_every_image_in_memory_is_validated_on_once(count: int, given_tensors: DataModule) -> None:
    found = []
    for fold in range(count):
        datamodule = given_tensors(*tensors(), num_classes=50, val_size=15, fold=fold, folds=count)
        found.append(tuple(map(set, split(datamodule))))
        labels = datamodule.data_val.tensors[1]  # type: ignore[union-attr]
        assert torch.equal(datamodule.data_val.tensors[0], datamodule.tensors[0][labels])  # type: ignore
    check_folds(found)


def test_folds_follow_split_seed_and_leave_out_what_is_held_out(given_tensors: DataModule) -> None:
    options: dict[str, Any] = {"num_classes": 50, "fold": 1, "folds": 3}
    first, again, other = (
        split(given_tensors(*tensors(), **options, seed=seed, split_seed=split_seed))
        for seed, split_seed in ((0, 0), (1, 0), (0, 1))
    )
    assert first == again != other
    folds = [given_tensors(*tensors(), **{**options, "fold": fold}, held_out=[3, 5]) for fold in range(3)]
    found = [tuple(map(set, split(one))) for one in folds]
    check_folds(found)
    assert not {3, 5} & (found[0][0] | found[0][1])


def test_without_a_fold_the_split_is_what_it_was(given_tensors: DataModule) -> None:
    """The validation images of `val_size=15` and of a fraction of a list, as they were before there were folds."""
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    train, val, _ = split(given_tensors(*tensors(), num_classes=50, val_size=15, folds=5))
    assert val == sorted(order[:15]) and train == sorted(order[15:])
    splits: dict[str, list[Any]] = {"all": list(range(40))}
    split_missing(splits, 0.25, 0.2, seed=3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3)).tolist()
    assert splits["test"] == sorted(order[:8])
    rest = sorted(order[8:])
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3)).tolist()
    assert splits["val"] == [rest[i] for i in sorted(order[:8])]


def test_every_text_and_every_mask_is_validated_on_once(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", 11)
    write_folder(tmp_path / "masks", grey(0, 1, count=11))

    def bytes_of(part: Any) -> set[bytes]:
        return {image.numpy().tobytes() for image in part.tensors[0]}

    texts, masks = [], []
    for fold in range(4):
        data = text_data(tmp_path / "texts", fold=fold, folds=4, test_fraction=0.2, drop_last=False)
        loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
        texts.append(tuple(set(texts_in(loader)) for loader in loaders))
        mask_data = folder_data(tmp_path / "masks", fold=fold, folds=4)
        masks.append(tuple(bytes_of(mask_data.splits()[name]) for name in ("train", "val", "test")))
    check_folds(texts)
    check_folds(masks)


def test_every_photograph_is_validated_on_once(tmp_path: Path, compose: Callable[..., DictConfig]) -> None:
    """As the command line says it, with the number of folds of the configuration."""
    write_photographs(tmp_path / "train", 6)
    write_photographs(tmp_path / "test", 2)
    found = []
    for fold in range(5):
        options = ("data=image_folder", f"data.folder={tmp_path}", "data.batch_size=2", f"data.fold={fold}")
        data = instantiate(compose("model=mnist_cnn_8k", *options).data)
        data.setup()
        found.append(
            tuple({path for path, _ in part.samples} for part in (data.data_train, data.data_val, data.data_test))
        )
    check_folds(found)
    assert len(found[0][0] | found[0][1]) == 12


@pytest.mark.parametrize(
    ("fold", "folds", "message"),
    [
        (5, 5, "fold=5 must be from 0 to 4: folds=5"),
        (-1, 5, "fold=-1 must be from 0 to 4"),
        (0, 1, "folds=1 must be at least 2"),
        (None, 0, "folds=0 must be at least 2"),
        (0, None, "fold=0 needs folds"),
    ],
)
def test_a_fold_that_there_is_not_is_refused(
    fold: int | None, folds: int | None, message: str, given_tensors: DataModule
) -> None:
    with pytest.raises(ValueError, match=message):
        given_tensors(*tensors(), num_classes=50, fold=fold, folds=folds)


def test_more_folds_than_samples_are_refused(given_tensors: DataModule) -> None:
    with pytest.raises(ValueError, match="folds=41 are more than the 40 samples"):
        given_tensors(*tensors(), num_classes=50, fold=0, folds=41).setup()


def test_data_with_a_validation_set_of_their_own_have_no_folds(
    tmp_path: Path, compose: Callable[..., DictConfig]
) -> None:
    for name in ("train", "val", "test"):
        write_texts(tmp_path / name, 4)
    with pytest.raises(ValueError, match=r"fold=0 .* but these data have one of their own: set data.fold=null"):
        text_data(tmp_path, fold=0, folds=2)
    with pytest.raises(ValueError, match=r"fold=0 .* these data have one of their own"):
        scenes = compose("model=scenes_unet_64k", "data.fold=0").data
        DigitScenesDataModule(
            **{key: value for key, value in scenes.items() if key not in ("_target_", "augmentation")}
        )


def test_an_order_is_cut_into_parts() -> None:
    val, train = Fold(1, 3).split(Tensor([7, 1, 4, 2, 9, 0, 3]))
    assert val.tolist() == [2, 9] and train.tolist() == [7, 1, 4, 0, 3]
