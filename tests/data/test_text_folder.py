"""Texts of folders and tables: split, batched by length, resumed exactly; bad ones are named."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src.data.class_folders import count_classes
from src.data.text_batches import POOL, TextLoader, Texts
from src.data.text_folder import TextFolderDataModule
from src.predictor import check_card, fields_of, read_tokens

WORDS = {"cats": "meow", "dogs": "woof"}


def write_texts(folder: Path, count: int) -> None:
    """A folder for each class with files of different lengths."""
    for name, word in WORDS.items():
        (folder / name).mkdir(parents=True)
        for number in range(1, count + 1):
            (folder / name / f"{number}.txt").write_text(f"{number} " + f"{word} " * number)


def write_table(path: Path, rows: list[str], header: str = "label,text") -> Path:
    path.write_text("\n".join([header, *rows]))
    return path


def module(path: Path, **options: Any) -> TextFolderDataModule:
    small: dict[str, Any] = {"length": 40, "batch_size": 4, "val_fraction": 0.1, "test_fraction": 0.1}
    datamodule = TextFolderDataModule(str(path), **{**small, **options})
    datamodule.setup()
    return datamodule


def texts_in(batches: Any) -> list[str]:
    return [bytes(t - 1 for t in row if t).decode() for tokens, _ in batches for row in tokens.tolist()]


def sizes(datamodule: TextFolderDataModule) -> list[int]:
    return [len(part) for part in (datamodule.data_train, datamodule.data_val, datamodule.data_test) if part]


def test_three_folders_are_the_three_splits(tmp_path: Path) -> None:
    for split, count in {"train": 8, "val": 3, "test": 2}.items():
        write_texts(tmp_path / split, count)
    (tmp_path / "train" / "cats" / ".hidden").touch()
    datamodule = module(tmp_path)
    assert sizes(datamodule) == [16, 6, 4] and datamodule.class_names == ["cats", "dogs"]
    tokens, labels = next(iter(datamodule.train_dataloader()))
    assert tokens.dtype == labels.dtype == torch.int64 and labels.shape == (4,)
    for tokens, labels in datamodule.test_dataloader():
        for text, label in zip(texts_in([(tokens, labels)]), labels.tolist(), strict=True):
            assert list(WORDS.values())[label] in text


def test_one_folder_is_split_by_a_seed_without_overlap(tmp_path: Path) -> None:
    write_texts(tmp_path, 20)
    parts = []
    for seed in (0, 0, 1):
        datamodule = module(tmp_path, split_seed=seed, val_fraction=0.25, test_fraction=0.2, drop_last=False)
        loaders = datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader()
        parts.append([sorted(texts_in(loader)) for loader in loaders])
    assert [len(part) for part in parts[0]] == [24, 8, 8]
    assert len({text for part in parts[0] for text in part}) == 40
    assert parts[0] == parts[1] != parts[2]


def test_a_folder_without_texts_is_a_class_as_the_net_is_told(tmp_path: Path) -> None:
    write_texts(tmp_path, 10)
    (tmp_path / "birds").mkdir()
    datamodule = module(tmp_path, num_classes=count_classes(str(tmp_path), 10))
    assert datamodule.class_names == ["birds", "cats", "dogs"]
    assert datamodule.class_counts()["train"].tolist()[0] == 0


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    for number in range(20):
        (tmp_path / "cats" / f"{number}.txt").write_text("meow")
    with pytest.raises(ValueError, match="holds one class, cats: texts need a folder for each"):
        module(tmp_path)


def test_a_table_is_split_by_a_seed_or_by_its_column(tmp_path: Path) -> None:
    rows = [f'{name},"{word}, {number}\nand more"' for name, word in WORDS.items() for number in range(10)]
    datamodule = module(write_table(tmp_path / "a.csv", rows))
    assert sizes(datamodule) == [16, 2, 2] and datamodule.class_names == ["cats", "dogs"]
    assert "and more" in texts_in(datamodule.test_dataloader())[0]
    rows = [f"{split},dogs,woof {n}" for split, count in {"test": 3, "train": 5}.items() for n in range(count)]
    rows += ["train,cats,meow"] * 5
    assert sizes(module(write_table(tmp_path / "a.csv", rows, "split,label,text"))) == [9, 1, 3]


def test_the_card_describes_tokens_as_the_predictor_reads_them(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", 10)
    datamodule = module(tmp_path / "texts")
    card = datamodule.input_card()
    card |= {"outputs": {"class": {"kind": "classes", "names": card["heads"]["class"]}}}
    check_card(card, fields_of(card))
    ((tokens, _),) = datamodule.val_dataloader()
    for row in tokens:
        (tmp_path / "a.txt").write_bytes(bytes(token - 1 for token in row.tolist() if token))
        padded = torch.nn.functional.pad(row, (0, 40 - len(row)))
        assert np.array_equal(read_tokens(tmp_path / "a.txt", card), padded.numpy())


def loader(count: int = 500, **options: Any) -> TextLoader:
    lengths = torch.randint(1, 60, (count,), generator=torch.Generator().manual_seed(0)).tolist()
    texts = Texts([chr(97 + n % 26) * length for n, length in enumerate(lengths)], list(range(count)), length=50)
    return TextLoader(texts, **{"batch_size": 4, "shuffle": True, "drop_last": True, **options})


def epoch(batches: TextLoader, number: int) -> list[tuple[Tensor, Tensor]]:
    batches.set_epoch(number)
    return list(batches)


def test_batches_hold_each_text_once_padded_to_their_longest() -> None:
    for batches in (loader(), loader(shuffle=False, drop_last=False)):
        served = list(batches)
        assert len(served) == len(batches)
        assert sorted(label for _, labels in served for label in labels.tolist()) == list(range(500))
        for tokens, labels in served:
            lengths = batches.texts.lengths[labels]
            assert tokens.shape == (len(labels), lengths.max()) and tokens.shape[1] <= 50
            assert torch.equal((tokens != 0).sum(dim=1), lengths)
            assert torch.equal(tokens[:, 0], labels % 26 + 98)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_hold_texts_of_similar_lengths(shuffle: bool) -> None:
    padding = [float((tokens == 0).float().mean()) for tokens, _ in loader(shuffle=shuffle)]
    assert sum(padding) / len(padding) < 0.05  # in an order drawn at random it is 0.35


def test_the_order_is_of_the_seed_and_the_epoch_alone_and_batches_are_shuffled() -> None:
    first, again, later, other = loader(), loader(), loader(), loader(seed=1)
    epochs = (first, 3), (again, 3), (later, 4), (other, 3)
    orders = [[labels.tolist() for _, labels in epoch(*pair)] for pair in epochs]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] and orders[0] != orders[3]
    lengths = [tokens.shape[1] for tokens, _ in epoch(loader(POOL * 4), 3)]  # of texts that are sorted together
    assert lengths != sorted(lengths)
    assert {frozenset(batch) for batch in orders[0]} != {frozenset(batch) for batch in orders[2]}


def test_more_texts_than_a_pool_are_mixed_anew_every_epoch() -> None:
    batches = loader(4 * POOL * 4)
    pairs = [{frozenset(labels.tolist()) for _, labels in epoch(batches, number)} for number in (0, 1)]
    assert len(pairs[0] & pairs[1]) < 5


def test_an_interrupted_epoch_goes_on_where_it_was() -> None:
    whole = epoch(loader(), 2)
    interrupted = loader()
    interrupted.set_epoch(2)
    iterator = iter(interrupted)
    for _ in range(7):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(interrupted.state_dict())
    rest = epoch(resumed, 2)
    assert len(rest) == len(whole) - 7
    for ours, theirs in zip(rest, whole[7:], strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    assert len(epoch(resumed, 3)) == len(whole)


@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_share_the_texts_in_as_many_steps(drop_last: bool) -> None:
    shares = [list(loader(250, rank=rank, world_size=3, drop_last=drop_last)) for rank in range(3)]
    labels = [label for share in shares for _, part in share for label in part.tolist()]
    assert len({len(share) for share in shares}) == 1
    assert len(set(labels)) == len(labels) and (drop_last or len(labels) == 250)


def test_no_texts_make_no_batches() -> None:
    assert list(loader(0, drop_last=False)) == []
    with pytest.raises(ValueError, match="batch_size=600 is larger than the 500 samples to train on"):
        loader(batch_size=600)
    with pytest.raises(ValueError, match="2 samples cannot be shared by 3 processes"):
        loader(2, world_size=3)


def test_bad_texts_are_all_named(tmp_path: Path) -> None:
    write_texts(tmp_path, 10)
    (tmp_path / "cats" / "3.txt").write_text(" \n")
    (tmp_path / "dogs" / "4.txt").write_bytes(b"ab\xff")
    with pytest.raises(ValueError) as error:
        module(tmp_path)
    message = str(error.value)
    assert "cats/3.txt cannot be read as text: it is empty; " in message
    assert "dogs/4.txt cannot be read as text: it is not in UTF-8 (byte 3 is 0xff). Repair or delete them." in message


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a,b"], "text,class", "a.csv cannot be read as a table of texts: it has no column label"),
        ([], "text,label", "a.csv holds no texts: each row needs a text and a label"),
        (["hello,a", " ,b", "you,"], "text,label", "a.csv: row 3 has no text; row 4 has no label. Repair or delete"),
        (["hello"], "text,label", "a.csv: row 2 has no label"),
        ([" ,b"] * 7, "text,label", "row 6 has no text; and 2 more. Repair"),
        (["a,b,dev"], "text,label,split", "row 2 has the split dev, which is not one of train, val, test"),
        (["a,b,train", "a,b,val"], "text,label,split", "a.csv holds train, val: it needs train and test, or neither"),
        (
            ["a,b,train", "a,c,test"],
            "text,label,split",
            "a.csv: test holds the class c, but train does not",
        ),
    ],
)
def test_a_bad_table_is_refused_in_a_sentence(rows: list[str], header: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        module(write_table(tmp_path / "a.csv", rows, header))


def test_what_is_no_folder_of_texts_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data.path=.*none does not exist; name a folder of texts, or a CSV"):
        module(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no texts: each class needs a folder with its files"):
        module(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"text,label\n\xff\xfe,b\n")
    with pytest.raises(ValueError, match=r"a.csv cannot be read as a table of texts: 'utf-8' codec can't decode"):
        module(tmp_path / "a.csv")
    write_texts(tmp_path / "train", 5)
    with pytest.raises(ValueError, match="holds train: it needs train and test, or neither"):
        module(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length=0 must be at least 1"),
        ({"vocabulary_size": 300}, "vocabulary_size=300 must be 257"),
        ({"val_fraction": 1.0}, "val_fraction=1.0 must be between 0 and 1"),
        ({"num_classes": 3}, r"holds 2 classes \(cats, dogs\), but data.num_classes=3"),
        ({"batch_size": 100}, "batch_size=100 is larger than the 16 samples"),
    ],
)
def test_a_bad_value_is_refused_by_name(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_texts(tmp_path, 10)
    with pytest.raises(ValueError, match=message):
        module(tmp_path, **options)


def test_classes_are_counted_in_folders_and_tables(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", 2)
    table = write_table(tmp_path / "a.csv", ["a,b", "c,d", "a,e"])
    assert count_classes(str(tmp_path / "texts"), 5) == count_classes(str(table), 5) == 2
    assert count_classes(str(tmp_path / "none"), 5) == count_classes(str(write_table(table, [], "x")), 5) == 5
    table.write_bytes(b"text,label\n" + b"a" * 200_000)
    assert count_classes(str(table), 5) == 5


def test_classes_that_a_split_lacks_are_told_and_checksums_are_of_the_texts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"dogs,woof {n},{split}" for split in ("train", "val", "test") for n in range(4)] + ["cats,meow,train"]
    table = write_table(tmp_path / "a.csv", rows, "label,text,split")
    with caplog.at_level(logging.WARNING):
        datamodule = module(table)
    assert "No texts of cats in val and test: they are not evaluated there" in caplog.text
    assert datamodule.class_counts()["train"].tolist() == [1, 4]
    before = datamodule.checksums()
    write_table(tmp_path / "a.csv", [row.replace("woof 1,test", "woof 9,test") for row in rows], "label,text,split")
    after = module(table).checksums()
    assert before["train"] == after["train"] and before["test"] != after["test"]
