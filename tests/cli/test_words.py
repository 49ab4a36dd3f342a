"""Errors for words without a key suggest the key that was meant."""

from pathlib import Path

import pytest

from src.cli.words import check_words
from src.config.paths import CONFIGS
from tests.programs import run

MEANT = {
    ("predict", "photo.png"): "input=photo.png",
    ("predict", "shots"): "input=shots",
    ("predict", "last.ckpt"): "ckpt_path=last.ckpt",
    ("train", "logs/train/runs/one"): "resume=logs/train/runs/one",
    ("train", "mnist_cnn_68k"): "model=mnist_cnn_68k",
    ("train", "quickstart"): "experiment=quickstart",
    ("train", "in_memory"): "key=value",  # a base of other configurations, not an option
    ("train", "classifier"): "model/task=classifier",
    ("eval", "logs/train/runs/one"): "run_dir=logs/train/runs/one",
    ("export", "a/last.ckpt"): "ckpt_path=a/last.ckpt",
    ("compare", "logs/train"): "runs=logs/train",
    ("benchmark", "mnist_vit_38k"): "model=mnist_vit_38k",
    ("train", "faster"): "key=value, with quotes",
    ("train", "trainer.max_epochs"): "key=value, with quotes",
    ("train", "b]"): 'key=value, with quotes around a value with spaces: "key=[a, b]".',
}


@pytest.mark.parametrize(("program", "word"), MEANT)
def test_a_word_without_a_key_is_answered_with_what_was_meant(program: str, word: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_words(program, ["seed=1", word], CONFIGS)
    sentence = str(caught.value)
    assert sentence.startswith(f"{word} has no key: write {MEANT[program, word]}")


def test_options_their_values_and_deletions_are_no_such_words() -> None:
    check_words("train", ["--cfg", "job", "-m", "--info", "defaults", "~logger", "seed=1", ""], CONFIGS)


@pytest.mark.parametrize(
    ("program", "word"), [("predict", "photo.png"), ("train", "mnist_cnn_68k"), ("compare", "a/b")]
)
def test_programs_say_so_before_anything_else(program: str, word: str, tmp_path: Path) -> None:
    result = run(program, word, f"hydra.run.dir={tmp_path}/run")
    assert result.returncode == 1 and not (tmp_path / "run").exists()
    assert result.stderr.startswith(f"ERROR: {word} has no key: write ") and result.stderr.count("\n") == 1
